//! Scalars read back from the device: the only place where a step waits for it.

use burn::tensor::{Tensor, Transaction, backend::Backend};

/// The values of small tensors, mostly of shape `[1]`, all in one transaction.
pub(crate) fn numbers<B: Backend>(scalars: Vec<Tensor<B, 1>>) -> Vec<f64> {
    let register = |transaction: Transaction<B>, scalar| transaction.register(scalar);
    let transaction = scalars.into_iter().fold(Transaction::default(), register);
    let data = transaction.execute();
    data.iter().flat_map(|data| data.iter::<f64>()).collect()
}
