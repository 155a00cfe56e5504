//! Who believes to have which partition.
//!
//! Does: keep one owner per partition at most, and count those that have none.
//! Does not: know members beyond their number.
//! Invariants: a partition changes hands only through nobody's; whoever breaks that is named.
//! Apart because this is what a rebalance promises, whatever protocol it speaks.

/// A partition is with two members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Which.
    pub partition: i32,
    /// The member that had it.
    pub had: usize,
    /// The member that was given it.
    pub given: usize,
}

/// The partitions of one topic.
#[derive(Clone, Debug)]
pub struct Owners {
    owners: Vec<Option<usize>>,
    free: usize,
}

impl Owners {
    /// Nobody has anything.
    #[must_use]
    pub fn new(partitions: usize) -> Self {
        Self { owners: vec![None; partitions], free: partitions }
    }

    /// A member goes from what it had to what it has.
    ///
    /// # Errors
    /// Something of it is with another member.
    pub fn moved(&mut self, member: usize, had: &[i32], has: &[i32]) -> Result<(), Shared> {
        for partition in had {
            if self.owner(*partition) == Some(member) {
                self.owners[*partition as usize] = None;
                self.free += 1;
            }
        }
        for &partition in has {
            match self.owner(partition) {
                Some(had) if had != member => return Err(Shared { partition, had, given: member }),
                Some(_) => {}
                None => {
                    self.owners[partition as usize] = Some(member);
                    self.free -= 1;
                }
            }
        }
        Ok(())
    }

    /// Whether each partition is with one member.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.free == 0
    }

    /// How many partitions nobody has.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free
    }

    fn owner(&self, partition: i32) -> Option<usize> {
        self.owners[usize::try_from(partition).expect("partitions are not negative")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_one_owner_or_is_told_to_have_two() {
        let mut owners = Owners::new(3);
        owners.moved(0, &[], &[0, 1, 2]).expect("all are free");
        assert!(owners.is_complete());
        assert_eq!(owners.moved(1, &[], &[2]), Err(Shared { partition: 2, had: 0, given: 1 }));
        owners.moved(0, &[0, 1, 2], &[0, 1]).expect("it gives up one");
        assert_eq!(owners.free(), 1);
        owners.moved(1, &[], &[2]).expect("it is free");
        assert!(owners.is_complete());
    }
}
