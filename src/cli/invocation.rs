//! How the program was called, as a checkpoint keeps it.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::encoder::Encoder;
use super::failure::Failure;

/// The folder and the arguments that the program was called with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    folder: Text,
    arguments: Vec<Text>,
}

/// A name or an argument: as text, or as its bytes (in the form that the operating system gives
/// them) if it is not Unicode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Unicode(String),
    Other(OsString),
}

impl From<OsString> for Text {
    fn from(text: OsString) -> Self {
        text.into_string().map_or_else(Self::Other, Self::Unicode)
    }
}

impl From<Text> for OsString {
    fn from(text: Text) -> Self {
        match text {
            Text::Unicode(text) => text.into(),
            Text::Other(text) => text,
        }
    }
}

impl Invocation {
    /// The command that is running now. The encoder is named in it even if it was found in the cache
    /// or the environment, so that a change there changes nothing.
    pub fn current(encoder: &Encoder) -> Result<Self, Failure> {
        let mut arguments: Vec<OsString> = std::env::args_os().collect();
        let option = match encoder {
            Encoder::Builtin => "--encoder=builtin".into(),
            Encoder::Vgg19(path) => {
                let mut option = OsString::from("--weights=");
                option.push(std::path::absolute(path).map_err(Failure::other)?);
                option
            }
        };
        // Before what may stand behind a `--`; it overrides what was given before.
        let end = arguments.iter().position(|argument| argument == "--");
        arguments.insert(end.unwrap_or(arguments.len()), option);
        let folder = std::env::current_dir().map_err(Failure::other)?;
        Ok(Self::new(folder, arguments))
    }

    fn new(folder: PathBuf, arguments: Vec<OsString>) -> Self {
        Self {
            folder: folder.into_os_string().into(),
            arguments: arguments.into_iter().map(Text::from).collect(),
        }
    }

    /// The form in which a checkpoint keeps it.
    pub fn to_note(&self) -> Result<String, Failure> {
        serde_json::to_string(self).map_err(Failure::other)
    }

    /// What [`to_note`](Self::to_note) wrote; `None` if it was something else.
    pub fn from_note(note: &str) -> Option<Self> {
        serde_json::from_str(note).ok()
    }

    /// The folder in which the program was called.
    pub fn folder(&self) -> PathBuf {
        OsString::from(self.folder.clone()).into()
    }

    /// The name of the program and its arguments.
    pub fn arguments(&self) -> impl Iterator<Item = OsString> {
        self.arguments.iter().cloned().map(OsString::from)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn names_that_are_not_unicode_survive() {
        let odd = |name: &[u8]| OsString::from_vec(name.to_vec());
        let arguments = vec![
            odd(b"impasto"),
            odd(b"caf\xc3\xa9.png"),
            odd(b"caf\xe9.png"),
        ];
        let invocation = Invocation::new(odd(b"/\xff\xfe").into(), arguments.clone());
        let note = invocation.to_note().unwrap();
        assert!(note.contains("café.png"), "{note}");
        let read = Invocation::from_note(&note).unwrap();
        assert_eq!(read, invocation);
        assert_eq!(read.arguments().collect::<Vec<_>>(), arguments);
        assert_eq!(read.folder().into_os_string(), odd(b"/\xff\xfe"));
        assert_eq!(Invocation::from_note(""), None);
    }
}
