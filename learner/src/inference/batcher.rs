//! When waiting requests are acted upon, as a pure state machine: requests and the time go in, batches come out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// When a batch is full, and how long it waits to become so.
#[derive(Debug, Clone, Copy)]
pub struct BatchRules {
    /// Rows, environments of all requests together, in one batch. A single request may have more.
    pub rows_max: usize,
    /// Longest wait of a request for others to share a batch with.
    pub deadline: Duration,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<R> {
    /// Nothing: nobody waits.
    Rest,
    /// Nothing until this moment, unless a request arrives.
    Wait(Instant),
    /// Act upon these, in the order of their arrival.
    Act(Vec<R>),
}

/// Requests that wait. Each line to an actor has at most one, so there are never more than lines.
#[derive(Debug)]
pub struct Batcher<R> {
    rules: BatchRules,
    waiting: VecDeque<Waiting<R>>,
}

#[derive(Debug)]
struct Waiting<R> {
    request: R,
    rows: usize,
    arrived: Instant,
}

impl<R> Batcher<R> {
    /// Nobody waits.
    #[must_use]
    pub fn new(rules: BatchRules) -> Self {
        Self {
            rules,
            waiting: VecDeque::new(),
        }
    }

    /// A request of `rows` environments arrived.
    pub fn arrive(&mut self, request: R, rows: usize, arrived: Instant) {
        self.waiting.push_back(Waiting {
            request,
            rows,
            arrived,
        });
    }

    /// What is to be done at `now`, with `lines` open to actors: a batch is complete when it is full, when nobody is left
    /// who could join it, or when its oldest request has waited for long enough.
    pub fn next(&mut self, now: Instant, lines: usize) -> Next<R> {
        let Some(oldest) = self.waiting.front() else {
            return Next::Rest;
        };
        let due = oldest.arrived + self.rules.deadline;
        let (requests, is_full) = self.fitting();
        if is_full || self.waiting.len() >= lines || now >= due {
            let batch = self.waiting.drain(..requests);
            return Next::Act(batch.map(|waiting| waiting.request).collect());
        }
        Next::Wait(due)
    }

    /// How many of the first requests fit into one batch, at least one, and whether they fill it.
    fn fitting(&self) -> (usize, bool) {
        let mut rows = 0;
        for (index, waiting) in self.waiting.iter().enumerate() {
            rows += waiting.rows;
            if rows > self.rules.rows_max {
                return (index.max(1), true);
            }
        }
        (self.waiting.len(), rows == self.rules.rows_max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(10);

    fn batcher(rows_max: usize) -> (Batcher<u32>, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let deadline = DEADLINE;
        let batcher = Batcher::new(BatchRules { rows_max, deadline });
        (batcher, move |ms| start + Duration::from_millis(ms))
    }

    #[test]
    fn a_batch_goes_when_it_is_full_when_all_are_in_it_or_when_its_oldest_has_waited() {
        let (mut batcher, ms) = batcher(8);
        assert_eq!(batcher.next(ms(0), 3), Next::Rest);
        batcher.arrive(1, 4, ms(0));
        assert_eq!(batcher.next(ms(0), 3), Next::Wait(ms(10)));
        batcher.arrive(2, 2, ms(4));
        // The oldest decides, and not a moment too early.
        assert_eq!(batcher.next(ms(9), 3), Next::Wait(ms(10)));
        assert_eq!(batcher.next(ms(10), 3), Next::Act(vec![1, 2]));
        assert_eq!(batcher.next(ms(10), 3), Next::Rest);
        // Full to the row.
        batcher.arrive(3, 4, ms(11));
        batcher.arrive(4, 4, ms(12));
        assert_eq!(batcher.next(ms(12), 3), Next::Act(vec![3, 4]));
        // Nobody is left to wait for.
        batcher.arrive(5, 1, ms(13));
        batcher.arrive(6, 1, ms(13));
        assert_eq!(batcher.next(ms(13), 2), Next::Act(vec![5, 6]));
    }

    #[test]
    fn what_does_not_fit_waits_for_the_next_batch_and_what_never_fits_goes_alone() {
        let (mut batcher, ms) = batcher(8);
        batcher.arrive(1, 6, ms(0));
        batcher.arrive(2, 6, ms(3));
        assert_eq!(batcher.next(ms(3), 9), Next::Act(vec![1]));
        assert_eq!(batcher.next(ms(3), 9), Next::Wait(ms(13)));
        batcher.arrive(3, 20, ms(4));
        assert_eq!(batcher.next(ms(4), 9), Next::Act(vec![2]));
        assert_eq!(batcher.next(ms(4), 9), Next::Act(vec![3]));
    }

    proptest! {
        #[test]
        fn every_request_is_acted_upon_once_in_order_and_none_waits_beyond_its_deadline(
            arrivals in prop::collection::vec((0_u64..15, 1_usize..12), 1..60),
            lines in 1_usize..20,
        ) {
            let (mut batcher, ms) = batcher(16);
            let (mut at, mut acted, mut begun) = (0, Vec::new(), Vec::new());
            for (number, (gap, rows)) in arrivals.iter().enumerate() {
                let next = at + gap;
                // Time passes moment by moment, as it does for a thread that wakes when it asked to.
                for moment in at..next {
                    while let Next::Act(batch) = batcher.next(ms(moment), lines) {
                        acted.extend(batch.iter().map(|request| (*request, moment)));
                    }
                }
                at = next;
                batcher.arrive(number as u32, *rows, ms(at));
                begun.push(at);
            }
            for moment in at..=at + 10 {
                while let Next::Act(batch) = batcher.next(ms(moment), lines) {
                    acted.extend(batch.iter().map(|request| (*request, moment)));
                }
            }
            let order: Vec<u32> = acted.iter().map(|(request, _)| *request).collect();
            prop_assert_eq!(order, (0..arrivals.len() as u32).collect::<Vec<_>>());
            for ((_, moment), begun) in acted.iter().zip(begun) {
                prop_assert!(moment - begun <= 10);
            }
        }
    }
}
