//! The names of devices, as `--device` takes them.

use std::fmt;
use std::str::FromStr;

use super::{Device, Devices};

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Ndarray => f.write_str("ndarray"),
            Device::Cuda(0) => f.write_str("cuda"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
            Device::Wgpu(None) => f.write_str("wgpu"),
            Device::Wgpu(Some(index)) => write!(f, "wgpu:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let device = match name.split_once(':') {
            Some(("cuda", index)) => index.parse().ok().map(Device::Cuda),
            Some(("wgpu", index)) => index.parse().ok().map(|index| Device::Wgpu(Some(index))),
            Some(_) => None,
            None => Device::ALL
                .iter()
                .map(|(device, _)| *device)
                .find(|device| device.to_string() == name),
        };
        let device = device.ok_or("expected cpu, ndarray, cuda, cuda:N, wgpu or wgpu:N")?;
        let feature = Device::ALL
            .iter()
            .find(|(kind, _)| std::mem::discriminant(kind) == std::mem::discriminant(&device))
            .map_or("", |(_, feature)| feature);
        if !device.is_built_in() {
            return Err(format!(
                "this build does not support {device}; build impasto with the feature `{feature}`"
            ));
        }
        Ok(device)
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, device) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{device}")?;
        }
        Ok(())
    }
}

impl FromStr for Devices {
    type Err = String;

    fn from_str(names: &str) -> Result<Self, Self::Err> {
        let devices = names.split(',').map(str::parse);
        let devices: Vec<Device> = devices.collect::<Result<_, _>>()?;
        let kind = std::mem::discriminant(&devices[0]);
        match devices
            .iter()
            .all(|device| std::mem::discriminant(device) == kind)
        {
            true => Ok(Self(devices)),
            false => Err("several devices must be of one kind".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_device_or_says_what_is_missing() {
        for (name, device) in [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:12", Device::Cuda(12)),
            ("wgpu", Device::Wgpu(None)),
            ("wgpu:0", Device::Wgpu(Some(0))),
            ("wgpu:3", Device::Wgpu(Some(3))),
        ] {
            match name.parse::<Device>() {
                Ok(parsed) => assert_eq!(parsed, device),
                Err(error) => assert!(
                    !device.is_built_in() && error.contains("feature"),
                    "{name}: {error}"
                ),
            }
            if name != "cuda:0" {
                assert_eq!(device.to_string(), name);
            }
        }
        for name in [
            "", "gpu", "cpu:1", "cuda:", "wgpu:-1", "wgpu:x", "wgpu:0:0", "CUDA",
        ] {
            let error = name.parse::<Device>().unwrap_err();
            assert!(error.contains("wgpu:N"), "{name}: {error}");
        }
    }

    #[test]
    fn several_devices_are_of_one_kind() {
        let devices: Devices = "cpu,cpu,cpu".parse().unwrap();
        assert_eq!(devices.0, [Device::Cpu; 3]);
        assert_eq!(devices.to_string(), "cpu,cpu,cpu");
        for names in ["cpu,", ",cpu", "cpu,,cpu", "cpu, cpu", "cpu,gpu"] {
            assert!(names.parse::<Devices>().is_err(), "{names}");
        }
        if Device::Ndarray.is_built_in() {
            let error = "cpu,ndarray".parse::<Devices>().unwrap_err();
            assert!(error.contains("one kind"), "{error}");
        }
    }
}
