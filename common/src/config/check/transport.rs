//! How learner and actors are connected.

use super::{COUNT_MAX, Config, Faults, MILLISECONDS_MAX};
use crate::config::{OverLimit, UNIX_PATH_BYTES_MAX, UnixListen};

impl Config {
    pub(super) fn transport_faults(&self, faults: &mut Faults) {
        self.publication_faults(faults);
        if let UnixListen::At(path) = &self.learner.listen_unix {
            let bytes = path.as_os_str().len();
            faults.unless((1..=UNIX_PATH_BYTES_MAX).contains(&bytes), || {
                format!(
                    "`learner.listen_unix` has {bytes} bytes, but the path of a Unix socket has 1 to {UNIX_PATH_BYTES_MAX}; \
                     choose a shorter path, or \"none\""
                )
            });
            faults.unless(cfg!(unix), || {
                "`learner.listen_unix` names a path, but this system has no Unix sockets; set it to \"none\"".to_owned()
            });
        }
    }

    /// What publishing rarely does not go with.
    fn publication_faults(&self, faults: &mut Faults) {
        let (updates, ms) = (
            self.learner.publish_interval_updates,
            self.learner.publish_interval_ms,
        );
        faults.duration(
            "learner.publish_interval_updates",
            updates,
            1,
            COUNT_MAX as u64,
        );
        faults.at_most("learner.publish_interval_ms", ms, MILLISECONDS_MAX);
        let lock_step = self.run.deterministic;
        faults.unless(!lock_step || (updates <= 1 && ms == 0), || {
            format!(
                "`run.deterministic` is true, `learner.publish_interval_updates` is {updates} and \
                 `learner.publish_interval_ms` is {ms}, but in lock-step the actors wait for every version; set them to 1 \
                 and 0"
            )
        });
        let paced = self.lag.over_limit == OverLimit::Pace && self.lag.max_versions.is_some();
        faults.unless(!paced || ms == 0, || {
            format!(
                "`lag.over_limit` is \"pace\" and `learner.publish_interval_ms` is {ms}, but how many versions are made in \
                 that time nobody knows beforehand, so no limit could be kept; set it to 0, and \
                 `learner.publish_interval_updates` instead"
            )
        });
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn faults(sets: &[&str]) -> String {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        let loaded = Config::load(None, std::iter::empty(), &sets);
        loaded.map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn publishing_rarely_is_refused_where_every_version_or_a_limit_is_counted_on() {
        let rare = "learner.publish_interval_updates=4";
        let slow = "learner.publish_interval_ms=100";
        assert_eq!(faults(&[rare, slow]), "");
        let never = faults(&["learner.publish_interval_updates=0"]);
        assert!(never.contains("publish_interval_updates"), "{never}");
        for key in [rare, slow] {
            let waiting = faults(&["run.deterministic=true", key]);
            assert!(waiting.contains("wait for every version"), "{waiting}");
        }
        let paced = |limit: &str, key| faults(&["lag.over_limit=pace", limit, key]);
        assert!(paced("lag.max_versions=9", slow).contains("no limit could be kept"));
        assert_eq!(paced("lag.max_versions=7", rare), "");
        let early = paced("lag.max_versions=6", rare);
        assert!(early.contains("= 7 versions behind"), "{early}");
    }

    #[test]
    fn a_socket_is_named_by_a_word_or_by_a_path_that_fits_into_an_address() {
        let loaded = |value: &str| {
            let sets = [format!("learner.listen_unix={value}")];
            let loaded = Config::load(None, std::iter::empty(), &sets);
            loaded.map(|loaded| loaded.config.learner.listen_unix)
        };
        assert_eq!(loaded("auto").unwrap(), UnixListen::Auto);
        assert_eq!(loaded("none").unwrap(), UnixListen::None);
        let path = |bytes| format!("/{}", "s".repeat(bytes - 1));
        let longest = path(UNIX_PATH_BYTES_MAX);
        assert_eq!(loaded(&longest).unwrap(), UnixListen::At(longest.into()));
        let refused = loaded(&path(UNIX_PATH_BYTES_MAX + 1)).unwrap_err();
        assert!(refused.to_string().contains("has 104 bytes"), "{refused}");
        assert!(loaded("").is_err());
    }
}
