//! Places at one less than their limit, at the limit and beyond.

use std::net::Ipv4Addr;

use super::*;

fn peer(number: u8) -> Option<IpAddr> {
    Some(Ipv4Addr::new(10, 0, 0, number).into())
}

fn places(total: usize, per_peer: usize) -> Places {
    Places::new(&LimitsConfig {
        connections_max: total,
        connections_per_peer_max: per_peer,
        ..LimitsConfig::default()
    })
}

fn evicted(places: &[Place]) -> Vec<usize> {
    let indices = places.iter().enumerate();
    let over = indices.filter(|(_, place)| place.conduct.evicted().is_cancelled());
    over.map(|(index, _)| index).collect()
}

#[tokio::test]
async fn at_either_limit_the_oldest_unknown_connection_makes_room() {
    // (total, per address, address of the nth connection)
    type Address = fn(u8) -> u8;
    let cases: [(usize, usize, Address); 2] = [(3, 3, |n| n), (9, 3, |_| 1)];
    for (total, per_peer, address) in cases {
        let places = places(total, per_peer);
        let mut taken: Vec<Place> = (0..2)
            .map(|n| places.take(peer(address(n))).unwrap())
            .collect();
        let _call = taken[0].conduct.begin_call();
        assert_eq!(evicted(&taken), [0; 0]);
        taken.push(places.take(peer(address(2))).unwrap());
        assert_eq!(evicted(&taken), [0; 0], "the limit itself is allowed");
        taken.push(places.take(peer(address(3))).unwrap());
        assert_eq!(
            evicted(&taken),
            [1],
            "0 is known, 1 is the oldest of the others"
        );
        taken.push(places.take(peer(address(4))).unwrap());
        assert_eq!(evicted(&taken), [1, 2]);
    }
}

#[tokio::test]
async fn who_is_known_is_never_turned_out() {
    let places = places(2, 2);
    let first = places.take(peer(1)).unwrap();
    let second = places.take(peer(2)).unwrap();
    let calls = [first.conduct.begin_call(), second.conduct.begin_call()];
    assert!(places.take(peer(3)).is_none());
    drop(calls);
    assert!(places.take(peer(3)).is_none(), "known is known");
    drop(first);
    assert!(places.take(peer(3)).is_some());
}

#[tokio::test]
async fn one_address_cannot_turn_out_another_s() {
    let places = places(9, 2);
    let honest = places.take(peer(1)).unwrap();
    let attackers: Vec<Place> = (0..50).filter_map(|_| places.take(peer(2))).collect();
    assert_eq!(evicted(&attackers).len(), 48);
    assert!(!honest.conduct.evicted().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_patience_ends_at_its_limit() {
    let second = Duration::from_secs(1);
    let patience = Patience {
        first_byte: 5 * second,
        first_call: 10 * second,
        idle: 30 * second,
    };
    let conduct = Conduct::new(Instant::now());
    let began = Instant::now();
    let alive = |after: u64, has_spoken: bool| {
        let now = began + Duration::from_secs(after);
        conduct.next_look(now, has_spoken, &patience).is_some()
    };
    assert_eq!(
        [4, 5, 6].map(|after| alive(after, false)),
        [true, false, false]
    );
    assert_eq!(
        [9, 10, 11].map(|after| alive(after, true)),
        [true, false, false]
    );
    let call = conduct.begin_call();
    assert!(alive(1000, true), "a call goes on");
    tokio::time::advance(100 * second).await;
    drop(call);
    assert_eq!(
        [129, 130, 131].map(|after| alive(after, true)),
        [true, false, false]
    );
}
