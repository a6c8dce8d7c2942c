//! What is read from files can be read from their bytes, and what is written to files be had as bytes: for
//! programs that have no files, as in a browser.

use std::error::Error as _;
use std::fs;

use burn::backend::{Autodiff, Flex};
use impasto::picture::{Depth, Format, SaveOptions};
use impasto::transfer::{Checkpoint, CheckpointError, End};
use impasto::{
    Picture, PictureError, Recipe, Status, StyleTransfer, Vgg19, Vgg19Weights, WeightsError,
};

use crate::repository;

type B = Autodiff<Flex>;

#[test]
fn pictures_from_bytes_are_those_of_their_files() {
    let path = repository("assets/scene.jpg");
    let bytes = fs::read(&path).unwrap();
    let opened = Picture::open(&path).unwrap();
    assert_eq!(Picture::from_bytes(&bytes, "scene").unwrap(), opened);
    let reduced = Picture::reduced_from_bytes(&bytes, "scene", 64).unwrap();
    assert_eq!(reduced, Picture::open_reduced(&path, 64).unwrap());
    let mask = Picture::mask_from_bytes(&bytes, "scene", 64).unwrap();
    assert_eq!(mask, Picture::open_mask(&path, 64).unwrap());
    let size = Picture::size_from_bytes(&bytes, "scene").unwrap();
    assert_eq!(size, Picture::read_size(&path).unwrap());
    let error = Picture::from_bytes(&bytes[..bytes.len() / 2], "dropped.jpg").unwrap_err();
    assert!(matches!(error, PictureError::EndsTooEarly { .. }));
    assert!(error.to_string().starts_with("dropped.jpg: "), "{error}");
}

#[test]
fn encoded_pictures_are_the_files_that_are_saved() {
    let folder = tempfile::tempdir().unwrap();
    let picture = Picture::open(repository("assets/swirls.jpg")).unwrap();
    let deep = SaveOptions {
        depth: Some(Depth::Sixteen),
        ..SaveOptions::default()
    };
    for (format, name) in [
        (Format::Png, "out.png"),
        (Format::Jpeg, "out.jpg"),
        (Format::WebP, "out.webp"),
        (Format::Tiff, "out.tiff"),
    ] {
        for options in [SaveOptions::default(), deep] {
            let path = folder.path().join(name);
            let saved = picture.save_with(&path, options);
            match picture.to_bytes(format, options) {
                Ok(bytes) => assert_eq!(bytes, fs::read(path).unwrap(), "{name}"),
                Err(error) => {
                    assert!(saved.is_err() && options == deep, "{name}: {error}");
                    let reason = error.source().unwrap().to_string();
                    assert_eq!(reason, "16 bits a channel need PNG or TIFF");
                }
            }
        }
    }
}

#[test]
fn weights_from_bytes_are_those_of_their_file() {
    let path = repository("assets/builtin.safetensors");
    let bytes = fs::read(&path).unwrap();
    let checksum = |weights| Vgg19::<Flex>::from_weights(weights, &Default::default()).checksum();
    let loaded = checksum(Vgg19Weights::load(path).unwrap());
    assert_eq!(
        checksum(Vgg19Weights::from_bytes(bytes.clone(), "weights").unwrap()),
        loaded
    );
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    std::io::Write::write_all(&mut packed, &bytes).unwrap();
    let packed = packed.finish().unwrap();
    assert_eq!(
        checksum(Vgg19Weights::from_bytes(packed, "weights.gz").unwrap()),
        loaded
    );
    let error = Vgg19Weights::from_bytes(&b"no weights"[..], "dropped.bin").unwrap_err();
    assert!(matches!(error, WeightsError::Format { .. }));
    assert!(error.to_string().starts_with("dropped.bin: "), "{error}");
}

/// A run that goes on from the bytes of its checkpoint ends with the same picture, to the bit.
#[test]
fn a_run_goes_on_from_the_bytes_of_its_checkpoint() {
    let encoder = Vgg19::<B>::builtin(&Default::default());
    let transfer = || {
        StyleTransfer::new(&encoder)
            .content(Picture::open(repository("assets/scene.jpg")).unwrap())
            .style(Picture::open(repository("assets/swirls.jpg")).unwrap(), 1.0)
            .recipe(Recipe {
                iterations: 4,
                ..Recipe::gram().with_size(48)
            })
    };
    let whole = transfer().run().unwrap();
    let mut run = transfer().prepare().unwrap();
    for _ in 0..2 {
        assert!(matches!(run.step().unwrap(), Status::Running(_)));
    }
    let bytes = run.checkpoint().unwrap().to_bytes().unwrap();
    let checkpoint = Checkpoint::from_bytes(&bytes, "kept").unwrap();
    let resumed = transfer().resume(checkpoint).run().unwrap();
    assert_eq!(
        (resumed.end, &resumed.picture),
        (End::Finished, &whole.picture)
    );
    let error = Checkpoint::from_bytes(&bytes[..bytes.len() - 1], "kept").unwrap_err();
    assert!(matches!(error, CheckpointError::Format { .. }));
    assert!(error.to_string().starts_with("kept: "), "{error}");
}
