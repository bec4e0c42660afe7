//! Where a model that was given to a device finds itself: on it, or on the CPU where it does not fit the device's numbers.

use crate::device::Executor;
use crate::error::{Error, Result};

/// A device, and why it is another than one might expect.
pub(super) type Chosen = (Box<dyn Executor>, Option<String>);

/// What `load` makes of the model on the device. Where the device's numbers cannot hold it, on the one of `spare`, if there is one.
pub(super) fn place<T>(
    (mut device, note): Chosen,
    spare: Option<impl FnOnce() -> Result<Box<dyn Executor>>>,
    mut load: impl FnMut(&mut dyn Executor) -> Result<T>,
) -> Result<(T, Chosen)> {
    match (load(&mut *device), spare) {
        (Err(Error::NotFinite(reason)), Some(spare)) => {
            let mut device = spare()?;
            let loaded = load(&mut *device)?;
            Ok((loaded, (device, Some(format!("{reason}: running on the CPU")))))
        }
        (Err(Error::NotFinite(reason)), None) => Err(Error::NotFinite(format!("{reason}; pass --device cpu"))),
        (loaded, _) => Ok((loaded?, (device, note))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::Cpu;

    fn cpu(threads: usize) -> Result<Box<dyn Executor>> {
        Ok(Box::new(Cpu::new(Some(threads))?))
    }

    /// A model that the device of one thread cannot hold.
    fn load(device: &mut dyn Executor) -> Result<&'static str> {
        match device.describe().as_str() {
            "cpu, 1 thread" => Err(Error::NotFinite("it ends at 65504".to_owned())),
            "cpu, 2 threads" => Ok("loaded"),
            _ => Err(Error::NoModel),
        }
    }

    #[test]
    fn a_model_that_does_not_fit_goes_to_the_spare_device() {
        let note = || Some("as chosen".to_owned());
        let (model, (device, why)) = place((cpu(1).unwrap(), note()), Some(|| cpu(2)), load).unwrap();
        assert_eq!((model, &*device.describe()), ("loaded", "cpu, 2 threads"));
        assert_eq!(why.unwrap(), "it ends at 65504: running on the CPU");
        let (_, (device, why)) = place((cpu(2).unwrap(), note()), Some(|| cpu(1)), load).unwrap();
        assert_eq!((&*device.describe(), why), ("cpu, 2 threads", note()));

        let refused = |threads| place((cpu(threads).unwrap(), note()), None::<fn() -> _>, load).err().unwrap();
        assert_eq!(refused(1).to_string(), "it ends at 65504; pass --device cpu");
        assert!(matches!(refused(3), Error::NoModel));
    }
}
