//! Nothing is lost, nothing is handed out twice, no more waits than there are places, and nobody waits for ever: in ten
//! thousand random orders of each scenario, in two thousand that put off one thread after another, and in twenty thousand
//! orders of the smallest scenario gone through systematically.
//!
//! `SPRINGBOK_SCHEDULES=1000000` tries more.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Orders of each scenario and kind.
fn schedules() -> usize {
    env::var("SPRINGBOK_SCHEDULES").map_or(10_000, |text| text.parse().expect("a number"))
}

/// The scenarios, over one copy of the hand-off.
macro_rules! scenarios {
    ($module:ident, $hand_off:path) => {
        mod $module {
            use std::{
                collections::VecDeque,
                sync::{
                    Arc,
                    atomic::{AtomicBool, Ordering},
                },
                time::Duration,
            };

            use shuttle::{future::block_on, sync::Mutex, thread};
            use $hand_off::{
                Held, NothingToTake, QueueReceiver, QueueSender, evicting_queue, queue,
            };

            /// Longer than anything.
            const ENDLESS: Duration = Duration::MAX;

            /// What became of each item.
            #[derive(Clone, Default)]
            struct Fates(Arc<Mutex<Vec<u32>>>);

            impl Fates {
                fn one(&self, item: u32) {
                    self.0.lock().unwrap().push(item);
                }

                /// Every item came to one end.
                fn assert_each_once(&self, mut items: Vec<u32>) {
                    let mut settled = self.0.lock().unwrap().clone();
                    settled.sort_unstable();
                    items.sort_unstable();
                    assert_eq!(settled, items);
                }
            }

            /// Pushes `items`, and notes those that come back; these may only once `closing` is set.
            fn produce(
                sender: QueueSender<u32>,
                items: Vec<u32>,
                fates: Fates,
                closing: Arc<AtomicBool>,
                closed: Arc<AtomicBool>,
            ) -> thread::JoinHandle<()> {
                thread::spawn(move || {
                    for item in items {
                        let was_closed = closed.load(Ordering::SeqCst);
                        match block_on(sender.push(item)) {
                            Ok(evicted) => {
                                assert!(!was_closed, "taken by a closed queue");
                                evicted.into_iter().for_each(|item| fates.one(item));
                            }
                            Err(back) => {
                                assert!(closing.load(Ordering::SeqCst), "refused by an open queue");
                                back.evicted.into_iter().for_each(|item| fates.one(item));
                                fates.one(*back.back);
                            }
                        }
                    }
                })
            }

            /// Takes what there is until no sender is left.
            fn consume(receiver: &QueueReceiver<u32>, fates: &Fates) {
                let mut last = [0; 10];
                loop {
                    match receiver.take(ENDLESS) {
                        Ok(item) => {
                            let producer = (item / 10) as usize;
                            assert!(item > last[producer], "out of order");
                            last[producer] = item;
                            fates.one(item);
                        }
                        Err(end) => {
                            assert_eq!(end, NothingToTake::Closed);
                            break;
                        }
                    }
                    assert!(receiver.fill() <= 1.0, "more than there are places");
                }
            }

            /// The same, but looks at what waits before it takes it.
            fn look_ahead(receiver: &QueueReceiver<u32>, fates: &Fates) {
                let (mut held, mut last) = (VecDeque::new(), [0; 10]);
                loop {
                    held.extend(receiver.hold());
                    held.extend(receiver.hold());
                    let waiting = receiver.fill() + receiver.share(held.len());
                    assert!(waiting <= 1.0, "more than there are places");
                    let item = match held.pop_front().map(Held::take) {
                        Some(item) => item,
                        None => match receiver.take(ENDLESS) {
                            Ok(item) => item,
                            Err(_) => break,
                        },
                    };
                    let producer = (item / 10) as usize;
                    assert!(item > last[producer], "out of order");
                    last[producer] = item;
                    fates.one(item);
                }
            }

            fn items(producer: u32, count: u32) -> Vec<u32> {
                (1..=count).map(|number| producer * 10 + number).collect()
            }

            fn run(ends: (QueueSender<u32>, QueueReceiver<u32>), counts: (u32, u32), closes: bool) {
                run_with(ends, counts, closes, consume);
            }

            fn run_with(
                (sender, receiver): (QueueSender<u32>, QueueReceiver<u32>),
                (producers, each): (u32, u32),
                closes: bool,
                consume: fn(&QueueReceiver<u32>, &Fates),
            ) {
                let fates = Fates::default();
                let (closing, closed) = (
                    Arc::new(AtomicBool::new(false)),
                    Arc::new(AtomicBool::new(false)),
                );
                let threads: Vec<_> = (1..=producers)
                    .map(|producer| {
                        let own = (fates.clone(), closing.clone(), closed.clone());
                        produce(sender.clone(), items(producer, each), own.0, own.1, own.2)
                    })
                    .collect();
                if closes {
                    let (closing, closed) = (closing.clone(), closed.clone());
                    thread::spawn(move || {
                        closing.store(true, Ordering::SeqCst);
                        sender.close();
                        closed.store(true, Ordering::SeqCst);
                    });
                } else {
                    drop(sender);
                }
                consume(&receiver, &fates);
                for thread in threads {
                    thread.join().unwrap();
                }
                fates.assert_each_once(
                    (1..=producers)
                        .flat_map(|producer| items(producer, each))
                        .collect(),
                );
            }

            /// Two streams, one place, and the trainer: the smallest that can go wrong.
            pub fn smallest() {
                run(queue(1), (2, 1), false);
            }

            pub fn waiting() {
                run(queue(2), (3, 2), false);
            }

            pub fn closing() {
                run(queue(1), (2, 2), true);
            }

            pub fn looking_ahead() {
                run_with(queue(2), (3, 2), false, look_ahead);
            }

            pub fn evicting() {
                run(evicting_queue(2), (3, 2), false);
            }

            pub fn evicting_and_closing() {
                run(evicting_queue(1), (2, 2), true);
            }

            /// The trainer computes for a long time: streams that evict need not wait for it.
            pub fn evicting_without_trainer() {
                let (sender, receiver) = evicting_queue(1);
                let fates = Fates::default();
                let (never, no) = (
                    Arc::new(AtomicBool::new(false)),
                    Arc::new(AtomicBool::new(false)),
                );
                let threads = [1, 2].map(|producer| {
                    produce(
                        sender.clone(),
                        items(producer, 2),
                        fates.clone(),
                        never.clone(),
                        no.clone(),
                    )
                });
                for thread in threads {
                    thread.join().unwrap();
                }
                assert_eq!(receiver.fill(), 1.0);
                drop(sender);
                consume(&receiver, &fates);
                fates.assert_each_once([items(1, 2), items(2, 2)].concat());
            }

            /// As a learner ends: it closes the queue, waits for the streams, and counts what nobody will train on.
            pub fn draining() {
                let (sender, receiver) = queue(2);
                let fates = Fates::default();
                let (closing, closed) = (
                    Arc::new(AtomicBool::new(false)),
                    Arc::new(AtomicBool::new(false)),
                );
                let threads = [1, 2].map(|producer| {
                    let own = (fates.clone(), closing.clone(), closed.clone());
                    produce(sender.clone(), items(producer, 2), own.0, own.1, own.2)
                });
                if let Ok(item) = receiver.take(Duration::ZERO) {
                    fates.one(item);
                }
                closing.store(true, Ordering::SeqCst);
                sender.close();
                closed.store(true, Ordering::SeqCst);
                for thread in threads {
                    thread.join().unwrap();
                }
                let left = receiver.clear();
                assert_eq!(fates.0.lock().unwrap().len() as u64 + left, 4);
                assert_eq!(receiver.fill(), 0.0);
            }

            pub const ALL: [(&str, fn()); 8] = [
                ("smallest", smallest),
                ("waiting", waiting),
                ("closing", closing),
                ("looking_ahead", looking_ahead),
                ("evicting", evicting),
                ("evicting_and_closing", evicting_and_closing),
                ("evicting_without_trainer", evicting_without_trainer),
                ("draining", draining),
            ];
        }
    };
}

scenarios!(real, springbok_schedules::hand_off);
scenarios!(lost, springbok_schedules::lost::hand_off);
scenarios!(twice, springbok_schedules::twice::hand_off);
scenarios!(unasked, springbok_schedules::unasked::hand_off);
scenarios!(waits, springbok_schedules::waits::hand_off);
scenarios!(careless, springbok_schedules::careless::hand_off);

fn holds(scenario: fn()) {
    shuttle::check_random_with_seed(scenario, 1, schedules());
    shuttle::check_pct(scenario, schedules() / 5, 3);
}

#[test]
fn streams_wait_for_places() {
    holds(real::waiting);
}

#[test]
fn closing_gives_back_what_waits() {
    holds(real::closing);
}

#[test]
fn what_is_looked_at_keeps_its_place() {
    holds(real::looking_ahead);
}

#[test]
fn a_full_evicting_queue_drops_its_oldest() {
    holds(real::evicting);
}

#[test]
fn an_evicting_queue_may_be_closed() {
    holds(real::evicting_and_closing);
}

#[test]
fn streams_that_evict_wait_for_no_trainer() {
    holds(real::evicting_without_trainer);
}

#[test]
fn a_drain_accounts_for_everything() {
    holds(real::draining);
}

/// Two streams with an unroll each, one place and the trainer: the orders are gone through one after another.
#[test]
fn the_smallest_hand_off_holds_in_order_after_order() {
    let tried = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tried);
    let smallest = move || {
        count.fetch_add(1, Ordering::Relaxed);
        real::smallest();
    };
    let most = 2 * schedules();
    shuttle::check_dfs(smallest, Some(most));
    let tried = tried.load(Ordering::Relaxed);
    eprintln!("{tried} orders of at most {most}");
    assert!(tried > 1_000, "{tried} orders");
}

/// The scenarios that fail.
fn found(all: [(&'static str, fn()); 8]) -> Vec<&'static str> {
    let fails = |scenario: fn()| {
        // What a failed check leaves behind stays in its thread.
        let check = thread::spawn(move || shuttle::check_random_with_seed(scenario, 1, 1_000));
        check.join().is_err()
    };
    let failed = all.into_iter().filter(|(_, scenario)| fails(*scenario));
    failed.map(|(name, _)| name).collect()
}

/// Each planted fault is found by random orders, and nothing is found where there is none.
#[test]
fn planted_faults_are_found() {
    assert!(found(lost::ALL).contains(&"smallest"), "a lost wake-up");
    assert!(
        found(twice::ALL).contains(&"evicting"),
        "an unroll handed out twice"
    );
    assert!(
        found(unasked::ALL).contains(&"waiting"),
        "more than there are places"
    );
    assert!(
        found(waits::ALL).contains(&"evicting_without_trainer"),
        "waiting for the trainer"
    );
    assert!(
        found(careless::ALL).contains(&"looking_ahead"),
        "a place given back too early"
    );
    assert!(found(real::ALL).is_empty());
}
