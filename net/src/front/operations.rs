//! How many operations of each kind were answered, counted as etcd counts them (`mvcc/metrics_txn.go`): those inside of
//! transactions too, and a transaction only if it held several.

use engine::response::{OpAnswer, Response, TxnAnswer};

/// The counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Ranges.
    pub ranges: u64,
    /// Puts.
    pub puts: u64,
    /// Deletes.
    pub deletes: u64,
    /// Transactions of more than one operation.
    pub txns: u64,
}

impl Operations {
    /// Counts what an answer is about.
    pub fn count(&mut self, answer: &Response) {
        match answer {
            Response::Range(_) => self.ranges += 1,
            Response::Put(_) => self.puts += 1,
            Response::DeleteRange(_) => self.deletes += 1,
            Response::Txn(txn) => {
                let before = self.sum();
                self.count_ops(txn);
                self.txns += u64::from(self.sum() - before > 1);
            }
            Response::Compact { .. }
            | Response::Alarm { .. }
            | Response::LeaseGrant { .. }
            | Response::LeaseRevoke { .. }
            | Response::LeaseCheckpoint { .. }
            | Response::Members { .. } => {}
        }
    }

    fn count_ops(&mut self, txn: &TxnAnswer) {
        for op in &txn.ops {
            match op {
                OpAnswer::Range(_) => self.ranges += 1,
                OpAnswer::Put(_) => self.puts += 1,
                OpAnswer::DeleteRange(_) => self.deletes += 1,
                OpAnswer::Txn(inner) => self.count_ops(inner),
            }
        }
    }

    fn sum(&self) -> u64 {
        self.ranges + self.puts + self.deletes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::response::PutAnswer;
    use engine::types::Revision;

    #[test]
    fn a_transaction_counts_what_it_holds() {
        let put = || PutAnswer { revision: Revision(2), prev: None };
        let txn = |count: usize| {
            let ops = (0..count).map(|_| OpAnswer::Put(put())).collect();
            TxnAnswer { revision: Revision(2), succeeded: true, ops }
        };
        let check = |answer: Response, expected: (u64, u64)| {
            let mut operations = Operations::default();
            operations.count(&answer);
            assert_eq!((operations.puts, operations.txns), expected, "{answer:?}");
        };
        check(Response::Put(put()), (1, 0));
        check(Response::Txn(txn(0)), (0, 0));
        check(Response::Txn(txn(1)), (1, 0));
        check(Response::Txn(txn(3)), (3, 1));
        let nested = TxnAnswer { ops: vec![OpAnswer::Txn(txn(2)), OpAnswer::Put(put())], ..txn(0) };
        check(Response::Txn(nested), (3, 1));
    }
}
