//! The tiles of an image, shared among ranks.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::{EvalError, Sums, Tile};
use crate::communicator::{CommunicationError, Communicator};
use crate::kernel::StyleBackend;
use crate::rect::Rect;

/// Pixels along a side of the part of an image that ranks compare.
const COMPARED: usize = 16;

/// The tiles of one rank.
pub(super) struct Share<'a> {
    communicator: Option<&'a dyn Communicator>,
    tiles: &'a [Tile],
    /// The rank that computes each tile.
    owners: Vec<usize>,
}

/// What was found of each tile, in their order: one after the other where nobody shares them, so that no more than
/// one is in memory.
type Found<'a, T> = Box<dyn Iterator<Item = Result<T, EvalError>> + 'a>;

impl<'a> Share<'a> {
    /// Each tile is given to the rank with the fewest pixels so far; one tile alone to nobody, since each rank
    /// computes it faster than it receives it.
    pub fn new(communicator: Option<&'a dyn Communicator>, tiles: &'a [Tile]) -> Self {
        let communicator = communicator.filter(|ranks| ranks.size() > 1 && tiles.len() > 1);
        let mut pixels = vec![0; communicator.map_or(1, |ranks| ranks.size())];
        let mut owner = |tile: &Tile| {
            let ranks = 0..pixels.len();
            let least = ranks.min_by_key(|&rank| pixels[rank]).unwrap_or(0);
            pixels[least] += tile.window.count();
            least
        };
        Self {
            owners: tiles.iter().map(&mut owner).collect(),
            communicator,
            tiles,
        }
    }

    /// The sums of every tile. Ranks whose images differ are found out.
    pub fn sums<B: StyleBackend>(
        &self,
        image: &Tensor<B, 4>,
        compute: impl Fn(&Tile) -> Result<Sums<B>, EvalError> + 'a,
    ) -> Result<Found<'a, Sums<B>>, EvalError> {
        let Some(ranks) = self.communicator else {
            return Ok(Box::new(self.tiles.iter().map(compute)));
        };
        let compared = image_part(image);
        let mut own = bytes(compared.clone());
        for tile in self.own(ranks) {
            let sums = compute(tile)?;
            own.extend((sums.len() as u64).to_le_bytes());
            for sums in sums {
                own.extend(sums.dims().iter().flat_map(|&n| (n as u64).to_le_bytes()));
                own.extend(bytes(sums));
            }
        }
        let all = ranks.all_gather(own)?;
        let mut messages: Vec<_> = all.iter().enumerate().map(Message::new).collect();
        let compared: Vec<f32> = values(compared);
        for message in &mut messages {
            let theirs = message.values(compared.len())?;
            let same = theirs
                .iter()
                .zip(&compared)
                .all(|(a, b)| a.to_bits() == b.to_bits());
            if !same {
                let rank = message.rank;
                return Err(CommunicationError::OtherImage { rank }.into());
            }
        }
        let device = image.device();
        let mut found: Vec<Result<Sums<B>, EvalError>> = Vec::new();
        for &owner in &self.owners {
            let message = &mut messages[owner];
            let mut sums = Vec::new();
            for _ in 0..message.number()? {
                let shape = [message.number()?, message.number()?];
                let len = shape[0].checked_mul(shape[1]);
                let values = message.values(len.ok_or(message.unknown())?)?;
                sums.push(Tensor::from_data(TensorData::new(values, shape), &device));
            }
            found.push(Ok(sums));
        }
        Ok(Box::new(found.into_iter()))
    }

    /// What every tile adds to the gradient.
    pub fn gradients<B: StyleBackend>(
        &self,
        image: &Tensor<B, 4>,
        compute: impl Fn(&Tile) -> Result<Tensor<B, 4>, EvalError> + 'a,
    ) -> Result<Found<'a, Tensor<B, 4>>, EvalError> {
        let Some(ranks) = self.communicator else {
            return Ok(Box::new(self.tiles.iter().map(compute)));
        };
        let mut own = Vec::new();
        for tile in self.own(ranks) {
            own.extend(bytes(compute(tile)?));
        }
        let all = ranks.all_gather(own)?;
        let [batch, channels, ..] = image.dims();
        let device = image.device();
        let mut starts = vec![0; all.len()];
        let tiles = self.tiles.iter().zip(self.owners.clone());
        let received = tiles.map(move |(tile, owner)| {
            let Rect { height, width, .. } = tile.window;
            let shape = [batch, channels, height, width];
            let mut message = Message {
                rank: owner,
                left: &all[owner][starts[owner]..],
            };
            let values = message.values(shape.iter().product())?;
            starts[owner] += 4 * values.len();
            Ok(Tensor::from_data(TensorData::new(values, shape), &device))
        });
        Ok(Box::new(received))
    }

    /// The tiles that this rank computes.
    fn own(&self, ranks: &dyn Communicator) -> impl Iterator<Item = &'a Tile> {
        let own = ranks.rank();
        let tiles = self.tiles.iter().zip(&self.owners);
        tiles.filter_map(move |(tile, &owner)| (owner == own).then_some(tile))
    }
}

/// A part of an image from its middle. A difference anywhere is everywhere after the next step of an optimiser
/// whose steps depend on sums over the image.
fn image_part<B: StyleBackend>(image: &Tensor<B, 4>) -> Tensor<B, 4> {
    let [_, _, height, width] = image.dims();
    let part = |length: usize| {
        let side = length.min(COMPARED);
        ((length - side) / 2, (length + side) / 2)
    };
    B::crop(image.clone(), Rect::between(part(height), part(width)))
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// In the order of bytes of the machine: ranks are of one kind.
fn bytes<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<u8> {
    let data = tensor.into_data();
    match data.as_slice::<f32>() {
        Ok(values) => bytemuck::cast_slice(values).to_vec(),
        Err(_) => bytemuck::cast_slice(&data.iter::<f32>().collect::<Vec<_>>()).to_vec(),
    }
}

/// What is left to read of a rank's bytes.
struct Message<'a> {
    rank: usize,
    left: &'a [u8],
}

impl<'a> Message<'a> {
    fn new((rank, bytes): (usize, &'a Vec<u8>)) -> Self {
        Self { rank, left: bytes }
    }

    fn unknown(&self) -> CommunicationError {
        CommunicationError::Message { rank: self.rank }
    }

    fn take(&mut self, len: Option<usize>) -> Result<&'a [u8], CommunicationError> {
        let taken = len.and_then(|len| self.left.split_at_checked(len));
        let (taken, left) = taken.ok_or(self.unknown())?;
        self.left = left;
        Ok(taken)
    }

    fn number(&mut self) -> Result<usize, CommunicationError> {
        let bytes = self.take(Some(8))?.try_into().map_err(|_| self.unknown())?;
        Ok(u64::from_le_bytes(bytes) as usize)
    }

    fn values(&mut self, count: usize) -> Result<Vec<f32>, CommunicationError> {
        let bytes = self.take(count.checked_mul(4))?;
        let (values, _) = bytes.as_chunks::<4>();
        Ok(values
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect())
    }
}
