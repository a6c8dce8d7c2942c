//! Which of many pictures a process paints.

use std::env;
use std::str::FromStr;

use super::failure::Failure;
use super::launcher::Process;

/// One of several equal parts of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 0.
    index: usize,
    count: usize,
}

/// `--shard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardArg {
    Given(Shard),
    /// What launchers and schedulers say.
    Auto,
}

impl FromStr for ShardArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let parts = text.split_once('/');
        let parts = parts.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((number, count)) if (1..=count).contains(&number) => {
                let index = number - 1;
                Ok(Self::Given(Shard { index, count }))
            }
            _ => Err("expected I/N with I from 1 to N, such as 2/4, or auto".into()),
        }
    }
}

impl ShardArg {
    /// The shard that is meant.
    pub fn resolve(self) -> Result<Shard, Failure> {
        match self {
            Self::Given(shard) => Ok(shard),
            Self::Auto => {
                let array = Shard::of_array(|name| env::var(name).ok())?;
                let process = Process::current().map(Shard::from);
                let shards = [array, process].into_iter().flatten();
                shards.reduce(Shard::within).ok_or_else(|| {
                    Failure::usage(
                        "--shard auto: this is no job array of Slurm, and no process of mpirun or srun; \
                         name the shard, such as --shard 2/4",
                    )
                })
            }
        }
    }
}

impl From<Process> for Shard {
    fn from(process: Process) -> Self {
        Self {
            index: process.number,
            count: process.count,
        }
    }
}

impl Shard {
    /// This task of a job array of Slurm, if it is one.
    fn of_array(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Failure> {
        let number = |name: &str| -> Option<usize> {
            variable(&format!("SLURM_ARRAY_TASK_{name}"))?.parse().ok()
        };
        let Some(task) = number("ID") else {
            return Ok(None);
        };
        let (count, first) = (number("COUNT").unwrap_or(0), number("MIN").unwrap_or(0));
        let step = number("STEP").unwrap_or(1).max(1);
        let index = task.saturating_sub(first) / step;
        let last = first + step * count.saturating_sub(1);
        match index < count && number("MAX").is_none_or(|max| max == last) {
            true => Ok(Some(Self { index, count })),
            false => Err(Failure::usage(
                "--shard auto: the tasks of the job array are not numbered evenly, as in --array=1-20; name \
                 the shard, such as --shard 2/4",
            )),
        }
    }

    /// A part of this part.
    fn within(self, part: Self) -> Self {
        Self {
            index: self.index * part.count + part.index,
            count: self.count * part.count,
        }
    }

    /// Whether an item of a list belongs to it.
    pub fn has(self, item: usize) -> bool {
        item % self.count == self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_numbered_from_one() {
        let given = |index, count| Ok(ShardArg::Given(Shard { index, count }));
        assert_eq!("1/1".parse(), given(0, 1));
        assert_eq!("3/4".parse(), given(2, 4));
        assert_eq!("auto".parse(), Ok(ShardArg::Auto));
        for text in ["", "0/4", "5/4", "1", "1/0", "-1/2", "1/2/3", "a/b", "Auto"] {
            let error = text.parse::<ShardArg>().unwrap_err();
            assert!(error.contains("2/4"), "{text}: {error}");
        }
    }

    #[test]
    fn job_arrays_are_understood() {
        let array = |variables: &[(&str, &str)]| {
            Shard::of_array(|name| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| value.to_string())
            })
        };
        // --array=10-30:5
        let mut variables = [
            ("SLURM_ARRAY_TASK_MAX", "30"),
            ("SLURM_ARRAY_TASK_ID", "20"),
            ("SLURM_ARRAY_TASK_COUNT", "5"),
            ("SLURM_ARRAY_TASK_MIN", "10"),
            ("SLURM_ARRAY_TASK_STEP", "5"),
        ];
        let shard = Shard { index: 2, count: 5 };
        assert_eq!(array(&variables).unwrap(), Some(shard));
        assert_eq!(array(&[]).unwrap(), None);
        // --array=10,20,40
        variables[0].1 = "40";
        assert!(array(&variables).is_err());
        let part = Shard { index: 1, count: 3 };
        assert_eq!(
            shard.within(part),
            Shard {
                index: 7,
                count: 15
            }
        );
    }

    #[test]
    fn every_item_is_in_one_shard() {
        for count in 1..6 {
            for item in 0..20 {
                let shards = (0..count).filter(|&index| Shard { index, count }.has(item));
                assert_eq!(shards.count(), 1);
            }
        }
    }
}
