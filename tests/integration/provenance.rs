//! What pictures remember of how they were made.

use std::fs;

use impasto::picture::Metadata;
use impasto::transfer::Provenance;
use impasto::{Picture, Recipe};
use serde_json::Value;

use crate::cli::{Files, run, stderr};

fn paint(files: &Files, name: &str, options: &[&str]) -> String {
    let output = files.stylize(name, options);
    assert!(output.status.success(), "{}", stderr(&output));
    files.path(name)
}

#[test]
fn pictures_of_every_format_remember_and_can_be_made_again() {
    let files = Files::new();
    let options = [
        "--recipe",
        "gram",
        "--style-weight",
        "9000.25",
        "--seed",
        "7",
        "--init",
        "noise",
    ];
    for name in ["out.png", "out.jpg", "out.webp", "out.tiff"] {
        let path = paint(&files, name, &options);
        let made = Provenance::read(&path).unwrap().unwrap();
        assert_eq!(made.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(made.seed, 7);
        assert_eq!(made.recipe.style_weight, 9000.25);
        assert_eq!((made.recipe.size, made.recipe.iterations), (48, 3));
        assert_eq!((made.width, made.height), (48, 36));
        assert_eq!(made.encoder.name, "vgg19-like");
        assert_eq!((made.encoder.checksum.len(), made.finished), (32, true));
        let scene = Picture::open(&files.scene).unwrap();
        assert_eq!(made.content, [scene.width(), scene.height()]);
        assert_eq!(made.styles.len(), 1);
        let metadata = Metadata::read(&path).unwrap().unwrap();
        assert_eq!(metadata.creator_tool, format!("impasto {}", made.version));

        let shown = run(&["show", &path, "--json"]);
        assert_eq!(
            serde_json::from_slice::<Provenance>(&shown.stdout).unwrap(),
            made
        );
        let words = run(&["show", &path]).stdout;
        let words = String::from_utf8(words).unwrap();
        for word in [
            "gram",
            "9000.25",
            "seed             7",
            &made.encoder.checksum,
        ] {
            assert!(words.contains(word), "{word}: {words}");
        }

        // Without the sizes and steps that `paint` asks for: the picture knows them.
        let again = files.path(&format!("again-{name}"));
        let arguments = [
            "stylize",
            &files.scene,
            &files.style,
            "-o",
            &again,
            "--recipe",
            &path,
        ];
        let arguments = [
            &arguments[..],
            &["--seed", "7", "--weights", &files.weights],
        ]
        .concat();
        let repeated = run(&arguments);
        assert!(repeated.status.success(), "{}", stderr(&repeated));
        assert!(
            fs::read(&again).unwrap() == fs::read(&path).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn no_names_go_into_a_picture() {
    let files = Files::new();
    let recipe = format!("name = 'ann'\nsource = '{}'", files.path("ann"));
    let recipe = files.write("ann-recipe.toml", recipe.as_bytes());
    let start = ["--recipe", &recipe, "--init", &files.style];
    let path = paint(&files, "secret-output.png", &start);
    let made = Provenance::read(&path).unwrap().unwrap();
    assert_eq!(
        (&made.recipe.name[..], &made.recipe.source[..]),
        ("custom", "")
    );
    assert!(made.start_picture);
    let text = Metadata::read(&path).unwrap().unwrap().provenance;
    let folder = files.folder.path().to_str().unwrap();
    for name in [
        "ann",
        "secret",
        "swirls",
        "scene",
        "assets",
        "small.safetensors",
        folder,
        "/",
    ] {
        // The source of no recipe is kept here, which may name a repository.
        assert!(!text.contains(name), "{name}: {text}");
    }
}

#[test]
fn metadata_can_be_left_out() {
    let files = Files::new();
    let path = paint(&files, "out.png", &["--no-metadata", "--save-every", "2"]);
    for path in [path.clone(), files.path("out-0002.png")] {
        assert_eq!(Metadata::read(&path).unwrap(), None);
        let shown = run(&["show", &path]);
        assert_eq!(shown.status.code(), Some(2));
        assert!(
            stderr(&shown).contains("--no-metadata"),
            "{}",
            stderr(&shown)
        );
    }
    let pixels = |path: &str| Picture::open(path).unwrap();
    let with = paint(&files, "with.png", &[]);
    assert_eq!(pixels(&with), pixels(&path));
}

#[test]
fn intermediate_pictures_say_so() {
    let files = Files::new();
    paint(&files, "out.jpg", &["--save-every", "2"]);
    let made = Provenance::read(files.path("out-0002.jpg"))
        .unwrap()
        .unwrap();
    assert_eq!((made.evaluations, made.finished), (2, false));
    assert_eq!(made.width, 48);
    let shown = String::from_utf8(run(&["show", &files.path("out-0002.jpg")]).stdout).unwrap();
    assert!(shown.contains("not finished"), "{shown}");
}

#[test]
fn pictures_of_other_versions_are_refused_with_their_name() {
    let files = Files::new();
    let path = files.path("newer.png");
    let recipe = serde_json::to_value(Recipe::default()).unwrap();
    let mut recipe = recipe.as_object().unwrap().clone();
    recipe.insert("brush".to_string(), Value::from(3));
    let metadata = Metadata {
        creator_tool: "impasto 99.0".to_string(),
        provenance: serde_json::json!({ "version": "99.0", "recipe": recipe }).to_string(),
    };
    let picture = Picture::from_rgb(1, 1, vec![0.0; 3]).unwrap();
    picture.with_metadata(metadata).save(&path).unwrap();
    let shown = run(&["show", &path]);
    assert_eq!(shown.status.code(), Some(2));
    let message = stderr(&shown);
    assert!(
        message.contains("impasto 99.0") && message.contains("brush"),
        "{message}"
    );
}

#[test]
fn metadata_that_a_format_has_no_room_for_are_refused() {
    let files = Files::new();
    let picture = |length: usize| {
        let metadata = Metadata {
            creator_tool: String::new(),
            provenance: "x".repeat(length),
        };
        let picture = Picture::from_rgb(1, 1, vec![0.0; 3]).unwrap();
        picture.with_metadata(metadata)
    };
    for (name, length, fits) in [
        ("a.jpg", 64_000, true),
        ("b.jpg", 66_000, false),
        ("c.png", 66_000, true),
        ("d.png", 1 << 20, false),
        ("e.tiff", 1_000_000, true),
        ("f.webp", 1_000_000, true),
    ] {
        let path = files.path(name);
        let saved = picture(length).save(&path);
        assert_eq!(saved.is_ok(), fits, "{name}: {saved:?}");
        if fits {
            let read = Metadata::read(&path).unwrap().unwrap();
            assert_eq!(read.provenance.len(), length, "{name}");
        }
    }
}
