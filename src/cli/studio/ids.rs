//! What jobs and pictures are called.

use serde::{Deserialize, Serialize};

/// The number of a job, which no other one gets.
pub type JobId = u64;

/// The name of a picture: of one that was dropped on the page, or of a job's result. Never a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PictureId {
    /// The first 32 hexadecimal digits of the SHA-256 of the file.
    Dropped(String),
    Result(JobId),
}

impl TryFrom<String> for PictureId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(number) = text.strip_prefix("job-") {
            let number = number.parse().map_err(|_| "this is no job".to_string())?;
            return Ok(Self::Result(number));
        }
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.len() == 32 && text.bytes().all(digit) {
            true => Ok(Self::Dropped(text)),
            false => Err("this is no picture".to_string()),
        }
    }
}

impl From<PictureId> for String {
    fn from(id: PictureId) -> Self {
        match id {
            PictureId::Dropped(text) => text,
            PictureId::Result(job) => format!("job-{job}"),
        }
    }
}
