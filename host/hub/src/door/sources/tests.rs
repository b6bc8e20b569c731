use super::*;
use futures::FutureExt;
use proptest::prelude::*;

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const SHARE: usize = limits::MAX_UNKNOWN_OF_SOURCE;

fn start() -> (Arc<Sources>, Instant) {
    (Arc::new(Sources::default()), Instant::now())
}

fn other(number: u8) -> IpAddr {
    std::net::Ipv4Addr::new(192, 0, 2, number).into()
}

fn knock(sources: &Arc<Sources>, source: IpAddr) -> Knock {
    sources.knock(source, Instant::now()).unwrap()
}

fn enter(sources: &Arc<Sources>, source: IpAddr) -> Visit {
    match knock(sources, source) {
        Knock::Enter(visit) => visit,
        Knock::Wait(_) => panic!("there is no place"),
    }
}

fn wait(sources: &Arc<Sources>, source: IpAddr) -> Turn {
    match knock(sources, source) {
        Knock::Enter(_) => panic!("there is a place"),
        Knock::Wait(turn) => turn,
    }
}

/// The visit of one whose turn has come.
fn come(turn: &mut Turn) -> Option<Visit> {
    (&mut turn.place).now_or_never()?.ok()
}

fn full_of(sources: &Arc<Sources>, source: IpAddr) -> Vec<Visit> {
    (0..SHARE).map(|_| enter(sources, source)).collect()
}

#[tokio::test]
async fn refusals_become_slower_up_to_a_limit() {
    let (sources, now) = start();
    let delays: Vec<_> = (0..12).map(|_| enter(&sources, SOURCE).failed(now).as_millis()).collect();
    assert_eq!(delays, [0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
}

#[tokio::test]
async fn a_source_with_failures_may_have_few_unproven_connections() {
    let (sources, now) = start();
    let honest: Vec<_> = (0..100).map(|_| enter(&sources, SOURCE)).collect();
    for _ in 0..SUSPICIOUS {
        honest[0].failed(now);
    }
    let mut further = wait(&sources, SOURCE);
    drop(enter(&sources, other(1)));
    assert!(come(&mut further).is_none());
    drop(honest);
    assert!(come(&mut further).is_some(), "it is slowed down, not locked out");
}

#[tokio::test]
async fn those_over_the_share_of_their_source_wait_for_its_places_in_order() {
    let (sources, _) = start();
    let mut all = full_of(&sources, SOURCE);
    let (mut first, mut second) = (wait(&sources, SOURCE), wait(&sources, SOURCE));
    assert!(first.is_first && !second.is_first);
    let elsewhere = enter(&sources, other(1));
    drop(elsewhere);
    assert!(come(&mut first).is_none(), "another source's place is not theirs");
    all.pop();
    let entered = come(&mut first).expect("its turn");
    assert!(come(&mut second).is_none());
    drop(entered);
    assert!(come(&mut second).is_some());
}

#[tokio::test]
async fn free_places_go_to_the_sources_in_turn() {
    let (sources, _) = start();
    let crowd = limits::MAX_UNKNOWN_CLIENTS / SHARE;
    let mut held: Vec<_> =
        (0..crowd).flat_map(|n| full_of(&sources, other(u8::try_from(n).unwrap()))).collect();
    // The attackers' own line is long, and one honest client comes last.
    let mut line: Vec<_> = (0..100).map(|_| wait(&sources, other(0))).collect();
    let mut honest = wait(&sources, SOURCE);
    drop(held.remove(0));
    drop(held.remove(0));
    let entered: Vec<_> = line.iter_mut().filter_map(come).collect();
    assert_eq!(entered.len(), 1);
    assert!(come(&mut honest).is_some());
}

#[tokio::test]
async fn a_turn_that_is_given_up_is_nobodys() {
    let (sources, _) = start();
    let mut all = full_of(&sources, SOURCE);
    let (gone, mut next) = (wait(&sources, SOURCE), wait(&sources, SOURCE));
    drop(gone);
    all.pop();
    let _entered = come(&mut next).expect("its turn");
    // It had its place already when it left.
    let late = wait(&sources, SOURCE);
    let mut last = wait(&sources, SOURCE);
    all.pop();
    drop(late);
    assert!(come(&mut last).is_some());
}

#[tokio::test]
async fn when_too_many_wait_the_newest_of_the_largest_crowd_goes() {
    let (sources, now) = start();
    let _full = full_of(&sources, SOURCE);
    let mut line: Vec<_> =
        (0..limits::MAX_WAITING_CLIENTS).map(|_| wait(&sources, SOURCE)).collect();
    assert_eq!(sources.knock(SOURCE, now).unwrap_err(), Crowded { news: true });
    assert_eq!(sources.knock(SOURCE, now).unwrap_err(), Crowded { news: false });
    let _others = full_of(&sources, other(1));
    let _waits = wait(&sources, other(1));
    let newest = line.pop().unwrap();
    assert!(newest.come().await.is_none(), "it was turned away for another source's client");
    assert!(come(&mut line[0]).is_none(), "the older ones still wait");
    assert_eq!(sources.lock().waiting, limits::MAX_WAITING_CLIENTS);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let (sources, _) = start();
    let _full = full_of(&sources, SOURCE);
    let before = Instant::now();
    assert!(wait(&sources, SOURCE).come().await.is_none());
    assert_eq!(before.elapsed(), limits::WAITING_LIMIT);
    assert_eq!(sources.lock().waiting, 0);
}

#[tokio::test]
async fn failures_are_forgotten_after_a_while() {
    let (sources, now) = start();
    for _ in 0..20 {
        enter(&sources, SOURCE).failed(now);
    }
    let Ok(Knock::Enter(visit)) = sources.knock(SOURCE, now + MEMORY) else { panic!("crowded") };
    assert_eq!(visit.failed(now + MEMORY), Duration::ZERO);
}

#[tokio::test]
async fn the_table_is_bounded_and_good_clients_leave_no_trace() {
    let (sources, now) = start();
    drop(enter(&sources, SOURCE));
    assert_eq!(sources.lock().records.len(), 0);
    for number in 0..2 * u32::try_from(SOURCES).unwrap() {
        let source = std::net::Ipv4Addr::from(number).into();
        enter(&sources, source).failed(now);
    }
    assert_eq!(sources.lock().records.len(), SOURCES);
}

#[test]
fn an_ipv6_network_is_one_source_and_a_mapped_address_its_ipv4() {
    let of = |text: &str| source_of(text.parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever comes and goes in whatever order: the counts are right, and no place is left free while
    /// somebody waits who may have it.
    #[test]
    fn places_and_turns_are_never_lost(steps in prop::collection::vec((0u8..8, 0usize..2_000, 1usize..200), 1..60)) {
        let (sources, now) = start();
        let (mut visits, mut turns) = (Vec::new(), Vec::new());
        for (what, at, times) in steps {
            for _ in 0..times {
                match what {
                    0..=4 => match sources.knock(other(what), now) {
                        Ok(Knock::Enter(visit)) => visits.push(visit),
                        Ok(Knock::Wait(turn)) => turns.push(turn),
                        Err(_) => {}
                    },
                    5 if !turns.is_empty() => drop(turns.swap_remove(at % turns.len())),
                    _ if !visits.is_empty() => drop(visits.swap_remove(at % visits.len())),
                    _ => {}
                }
            }
            turns.retain_mut(|turn| match come(turn) {
                Some(visit) => {
                    visits.push(visit);
                    false
                }
                None => true,
            });
            let state = sources.lock();
            prop_assert_eq!(state.taken, visits.len());
            prop_assert_eq!(state.waiting, turns.len());
            prop_assert!(state.taken <= limits::MAX_UNKNOWN_CLIENTS);
            for record in state.records.values() {
                prop_assert!(record.unproven <= SHARE);
                let is_stuck = !record.waiting.is_empty() && record.has_place(now);
                prop_assert!(!is_stuck || state.taken == limits::MAX_UNKNOWN_CLIENTS);
            }
        }
        drop((visits, turns));
        let state = sources.lock();
        prop_assert_eq!((state.taken, state.waiting, state.records.len(), state.turns.len()), (0, 0, 0, 0));
    }
}
