//! What `mpirun`, `srun` and their like say about the processes that they started.

use std::env;

/// A process among those that a launcher started together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Which one, from 0.
    pub number: usize,
    /// How many there are.
    pub count: usize,
    /// Which one of those on this machine.
    pub local_number: usize,
    /// How many there are on this machine.
    pub local_count: usize,
}

/// The variables in which launchers say it: of Open MPI, of MPICH and Intel MPI, of Slurm's srun.
const VARIABLES: [[&str; 4]; 3] = [
    [
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ],
    ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"],
    [
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_LOCALID",
        "SLURM_STEP_TASKS_PER_NODE",
    ],
];

impl Process {
    /// This process, if a launcher says that it is one of several, or under its `mpirun` the only one.
    pub fn current() -> Option<Self> {
        Self::from_variables(|name| env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        // `2(x3)` are two on each of three machines.
        let number = |name: &str| {
            let value = variable(name)?;
            let digits = value.trim_end_matches(|c: char| !c.is_ascii_digit());
            digits
                .split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse::<usize>()
                .ok()
        };
        // Slurm says it also where another speaks for the processes.
        let local = |column: usize| VARIABLES.iter().find_map(|names| number(names[column]));
        VARIABLES.iter().find_map(|[rank, size, ..]| {
            let (rank, size) = (number(rank)?, number(size)?);
            (rank < size).then(|| Self {
                number: rank,
                count: size,
                local_number: local(2).unwrap_or(0),
                local_count: local(3).unwrap_or(1).max(1),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(variables: &[(&str, &str)]) -> Option<Process> {
        Process::from_variables(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn launchers_are_understood() {
        let expected = Process {
            number: 3,
            count: 8,
            local_number: 1,
            local_count: 2,
        };
        let open_mpi = [
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("OMPI_COMM_WORLD_SIZE", "8"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ];
        let slurm = [
            ("SLURM_PROCID", "3"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_STEP_TASKS_PER_NODE", "2(x4)"),
        ];
        assert_eq!(process(&open_mpi), Some(expected));
        assert_eq!(process(&slurm), Some(expected));
        let mpich = [("PMI_RANK", "3"), ("PMI_SIZE", "8")];
        let alone = process(&mpich).map(|process| process.local_count);
        assert_eq!(alone, Some(1));
        let in_slurm = [&mpich[..], &slurm[2..]].concat();
        assert_eq!(process(&in_slurm), Some(expected));
        // In a batch script of Slurm, outside of srun, and with nonsense.
        assert_eq!(
            process(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")]),
            None
        );
        assert_eq!(process(&[("PMI_RANK", "8"), ("PMI_SIZE", "8")]), None);
        assert_eq!(process(&[("PMI_RANK", "x"), ("PMI_SIZE", "8")]), None);
    }
}
