//! Recipes as files, and what the program prints of them.

use std::fs;
use std::path::Path;

use impasto::Recipe;
use serde_json::Value;

use crate::cli::{Files, impasto, run, stderr};
use crate::repository;

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The recipe that a command line comes to.
fn planned(files: &Files, options: &[&str]) -> Recipe {
    let options = [&["--dry-run", "--json"], options].concat();
    let output = files.stylize("out.png", &options);
    assert!(output.status.success(), "{}", stderr(&output));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(plan["recipe"].clone()).unwrap()
}

/// What the program says as it refuses a recipe.
fn refusal(files: &Files, recipe: &str) -> String {
    let output = files.stylize("out.png", &["--recipe", recipe]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(!Path::new(&files.path("out.png")).exists());
    stderr(&output)
}

#[test]
fn every_recipe_is_printed_as_a_file_that_reads_back() {
    for recipe in Recipe::all() {
        let toml = stdout(&["recipes", "show", &recipe.name]);
        assert_eq!(Recipe::from_text(&toml).unwrap(), recipe, "{toml}");
        let json = stdout(&["recipes", "show", &recipe.name, "--json"]);
        assert_eq!(Recipe::from_text(&json).unwrap(), recipe, "{json}");
        assert_eq!(stdout(&["recipes", &recipe.name, "--json"]), json);
    }
    let all: Vec<Recipe> = serde_json::from_str(&stdout(&["recipes", "--json"])).unwrap();
    assert_eq!(all, Recipe::all());
}

#[test]
fn a_recipe_file_is_taken_and_options_stand_above_it() {
    let files = Files::new();
    // Told apart by contents, not by names.
    let mine = files.write(
        "mine.png",
        b"base = 'gram'\niterations = 7\nstyle-weight = 123.5",
    );
    // `quickly` asks for other sizes and steps.
    let recipe = planned(&files, &["--recipe", &mine, "--content-weight", "2"]);
    let mut expected = Recipe::gram().with_size(48);
    (
        expected.style_weight,
        expected.content_weight,
        expected.iterations,
    ) = (123.5, 2.0, 3);
    expected.pooling = recipe.pooling;
    assert_eq!(recipe, expected);

    let whole = files.path("whole");
    fs::write(&whole, stdout(&["recipes", "show", &mine])).unwrap();
    assert_eq!(
        planned(&files, &["--recipe", &whole, "--content-weight", "2"]),
        expected
    );
    assert!(stdout(&["recipes", &mine]).contains("123.5 × relu1_1"));
}

#[test]
#[cfg(unix)]
fn names_of_recipe_files_need_not_be_unicode() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let files = Files::new();
    let name = files.folder.path().join(OsStr::from_bytes(b"caf\xe9.toml"));
    fs::write(&name, "size = 77").unwrap();
    let output = impasto(&["recipes", "show"]).arg(&name).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(Recipe::from_text(&text).unwrap().size, 77);
}

#[test]
fn a_recipe_of_the_program_goes_before_a_file_of_its_name() {
    let files = Files::new();
    files.write("gram", b"base = 'gatys'");
    let name = |recipe: &str| {
        let mut command = impasto(&["recipes", "show", recipe, "--json"]);
        let output = command.current_dir(files.folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<Recipe>(&output.stdout)
            .unwrap()
            .name
    };
    assert_eq!(name("gram"), "gram");
    assert_eq!(name("./gram"), "gatys");
}

#[test]
fn refused_recipes_say_what_to_do() {
    let files = Files::new();
    let file = |name: &str, text: &[u8]| files.write(name, text);
    let typo = file("typo.toml", b"# mine\n\n[neighbors]\nrotation = false\n");
    let range = file("range.toml", b"base = 'gram'\nratio = 1\n");
    let value = file("value.json", br#"{"colors": "lumiance-lab"}"#);
    let binary = file("binary.toml", b"\xff\xfe\0");
    let large = file("large.toml", &b"#".repeat((1 << 20) + 1));
    let folder = files.path("");
    let folder = folder.trim_end_matches('/');
    let missing = files.path("missing.toml");
    for (recipe, words) in [
        (
            &typo[..],
            "typo.toml: line 4: there is no setting `neighbors.rotation`; did you mean `neighbors.rotations`?",
        ),
        (
            &range,
            "range.toml: line 2: `ratio` is 1, expected a number above 1",
        ),
        (
            &value,
            "`colors` is `lumiance-lab`, expected style, luminance-yuv",
        ),
        (&value, "did you mean `luminance-lab`?"),
        (&binary, "neither text (TOML or JSON) nor a picture"),
        (&large, "larger than a megabyte"),
        (folder, "cannot read the recipe"),
        (
            &missing,
            "missing.toml: cannot read the recipe: No such file",
        ),
        (&files.scene, "does not say how it was made"),
        ("garm", "there is no recipe `garm`; did you mean `gram`?"),
        ("garm", "no file of this name either"),
    ] {
        let message = refusal(&files, recipe);
        assert!(message.contains(words), "{recipe}: {message}");
        assert_eq!(message.trim().lines().count(), 1, "{message}");
    }
}

/// The table of settings in the documentation; `UPDATE_DOCS=1` writes it anew.
#[test]
fn the_documentation_lists_every_setting() {
    let path = repository("docs/recipe.md");
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- settings: begin -->\n", "<!-- settings: end -->");
    let (before, rest) = text.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let mut table = String::from("| setting | meaning | can be |\n|---|---|---|\n");
    for setting in Recipe::settings() {
        let (key, help, values) = (setting.key(), setting.help(), setting.values());
        table.push_str(&format!("| `{key}` | {help} | {values} |\n"));
    }
    let expected = format!("{before}{begin}{table}{end}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert!(
        text == expected,
        "docs/recipe.md is out of date: run this test once with UPDATE_DOCS=1"
    );
}

#[test]
fn programs_get_json() {
    let json = |arguments: &[&str]| serde_json::from_str::<Value>(&stdout(arguments)).unwrap();
    let devices = json(&["devices", "--json"]);
    assert_eq!(devices[0]["device"], "cpu");
    assert!(devices[0]["available"].is_boolean());
    let sources = json(&["weights", "list", "--json"]);
    assert_eq!(sources[0]["name"], "torchvision");
    assert_eq!(sources[0]["cached"], Value::Null);
    assert_eq!(json(&["layers", "--json"])[0]["layer"], "conv1_1");

    let files = Files::new();
    let output = files.stylize("out.png", &["--dry-run", "--json", "--size", "130"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1);
    let plan: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(plan["width"], 130);
    assert_eq!(plan["scales"][1]["width"], 130);
    assert_eq!(plan["scales"][0]["width"], 65);
    assert!(plan["memory"].as_u64() >= plan["scales"][0]["memory"].as_u64());
    assert!(plan["output"].as_str().unwrap().ends_with("out.png"));
    assert!(files.listing().is_empty());

    let refused = files.stylize("out.png", &["--json"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--dry-run"));
}
