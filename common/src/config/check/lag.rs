//! Limits and set-points of the policy lag.

use super::{COUNT_MAX, Faults};
use crate::{
    config::{Config, InferencePlace, OverLimit, Refresh, setting::NONE},
    injection::LagInjection,
};

/// Largest set-point of the lag: far above use.
const TARGET_LAG_MAX: f64 = 256.0;

impl Config {
    /// Values out of range, and limits under which nothing could be trained.
    pub(super) fn lag_faults(&self, faults: &mut Faults) {
        let lag = &self.lag;
        faults.unless((0.0..=1.0).contains(&lag.ess_floor), || {
            format!(
                "`lag.ess_floor` is {}, but must lie between 0 and 1; 0.5 is usual, 0 never warns",
                lag.ess_floor
            )
        });
        let limits = matches!(lag.over_limit, OverLimit::DropStale | OverLimit::DropOldest);
        faults.unless(limits || lag.max_versions.is_some(), || {
            format!(
                "`lag.over_limit` is \"{}\", but there is no limit; set `lag.max_versions`",
                lag.over_limit
            )
        });
        if let Some(limit) = lag
            .max_versions
            .filter(|_| lag.over_limit == OverLimit::Pace)
        {
            self.pace_faults(limit, faults);
        }
        if lag.max_versions == Some(0) {
            self.zero_limit_faults(faults);
        }
        self.inject_faults(faults);
        self.refresh_faults(faults);
        self.central_faults(faults);
        self.target_faults(faults);
    }

    /// A learner that acts does so with the newest parameters, whenever it is asked.
    fn central_faults(&self, faults: &mut Faults) {
        if self.actor.inference == InferencePlace::Local {
            return;
        }
        faults.unless(!self.run.deterministic, || {
            "`run.deterministic` is true and `actor.inference` is \"central\", but who shares a pass with whom is a matter of \
             time, and in lock-step nothing may be; set `actor.inference` to \"local\""
                .to_owned()
        });
        let inject = &self.lag.inject;
        faults.unless(*inject == LagInjection::None, || {
            format!(
                "`actor.inference` is \"central\" and `lag.inject` is \"{inject}\", but actors are served no parameters \
                 that could be older than the newest; set `actor.inference` to \"local\", or inject nothing"
            )
        });
        faults.unless(self.actor.refresh == Refresh::Unroll, || {
            "`actor.inference` is \"central\" and `actor.refresh` is \"step\", but actors have no parameters that could be \
             refreshed, and the learner acts with the newest ones anyway; leave `actor.refresh` at \"unroll\""
                .to_owned()
        });
        let (rows, own) = (
            self.learner.inference_batch_rows_max,
            self.actor.environments_per_actor,
        );
        faults.unless(rows >= own, || {
            format!(
                "`learner.inference_batch_rows_max` is {rows}, but one actor alone asks for {own} environments \
                 (`actor.environments_per_actor`); raise the one to at least {own} or lower the other"
            )
        });
    }

    /// Parameters that are taken up within an unroll.
    fn refresh_faults(&self, faults: &mut Faults) {
        if self.actor.refresh == Refresh::Unroll {
            return;
        }
        faults.unless(!self.run.deterministic, || {
            "`run.deterministic` is true and `actor.refresh` is \"step\", but the step at which parameters arrive is a \
             matter of time, and in lock-step nothing may be; set `actor.refresh` to \"unroll\""
                .to_owned()
        });
        let inject = &self.lag.inject;
        faults.unless(*inject == LagInjection::None, || {
            format!(
                "`actor.refresh` is \"step\" and `lag.inject` is \"{inject}\", but an unroll says only of its first \
                 step how far behind its parameters were served, so lag on purpose could not be told from natural lag; \
                 set `actor.refresh` to \"unroll\", or inject nothing"
            )
        });
    }

    /// Lag on purpose, and lock-step.
    fn inject_faults(&self, faults: &mut Faults) {
        let inject = &self.lag.inject;
        let (least, most) = (inject.versions_min(), inject.versions_max());
        let drops = self.lag.over_limit == OverLimit::DropStale;
        let limit = self.lag.max_versions.filter(|_| drops).unwrap_or(u64::MAX);
        faults.unless(least <= limit, || {
            format!(
                "`lag.inject` is \"{inject}\", so that after {least} updates every unroll is more than \
                 `lag.max_versions` = {limit} versions behind and nothing is trained any more; raise the limit to at \
                 least {most}"
            )
        });
        if !self.run.deterministic {
            return;
        }
        faults.unless(least > limit || most <= limit, || {
            format!(
                "`run.deterministic` is true and `lag.inject` is \"{inject}\", but in lock-step every unroll is waited \
                 for, and `lag.max_versions` = {limit} would drop some; raise the limit to at least {most}"
            )
        });
        let steered = self.lag.target_lag.is_some() || self.lag.target_ess.is_some();
        let holds_back = matches!(self.lag.over_limit, OverLimit::Pace | OverLimit::DropOldest);
        faults.unless(!steered && !holds_back, || {
            format!(
                "`run.deterministic` is true, but in lock-step nothing lags by itself, so there is nothing for \
                 `lag.target_lag`, `lag.target_ess` or `lag.over_limit` = \"{}\" to steer; leave them at their defaults",
                self.lag.over_limit
            )
        });
        faults.unless(self.learner.reuse <= 1, || {
            format!(
                "`run.deterministic` is true and `learner.reuse` is {}, but in lock-step every version asks for unrolls of \
                 its own, and a batch that is reused makes versions that none are due for; set `learner.reuse` to 1",
                self.learner.reuse
            )
        });
        let (batch, actors) = (self.learner.batch_unrolls, self.actor.count);
        faults.unless(actors == 0 || batch.is_multiple_of(actors), || {
            format!(
                "`run.deterministic` is true, but the {batch} unrolls of `learner.batch_unrolls` cannot be divided among \
                 `actor.count` = {actors} actors in lock-step; make the one a multiple of the other"
            )
        });
    }

    fn pace_faults(&self, limit: u64, faults: &mut Faults) {
        let (reuse, inject) = (self.learner.reuse as u64, self.lag.inject.versions_max());
        // The version that they have may be the one before the last that was published, and that may be old by now.
        let rarely = 2 * self
            .learner
            .publish_interval_updates
            .saturating_sub(1)
            .min(COUNT_MAX as u64);
        let least = reuse.saturating_add(inject).saturating_add(rarely);
        let batch = self.learner.batch_unrolls;
        let more = match rarely {
            0 => String::new(),
            _ => format!(" + {rarely} (`learner.publish_interval_updates`)"),
        };
        faults.unless(limit >= least, || {
            format!(
                "`lag.max_versions` is {limit} and `lag.over_limit` is \"pace\", but the {batch} unrolls of a batch are \
                 begun while parameters of the last one are still on their way, so they are {reuse} (`learner.reuse`) + \
                 {inject} (`lag.inject`){more} = {least} versions behind at whatever pace; raise the limit to at least {least}"
            )
        });
        let outbox = self.actor.outbox_unrolls;
        faults.unless(outbox <= 1, || {
            format!(
                "`lag.over_limit` is \"pace\" and `actor.outbox_unrolls` is {outbox}, but an actor begins all of its outbox \
                 before it can be paced, and where the limit forbids that it would never begin; set \
                 `actor.outbox_unrolls` to 1"
            )
        });
    }

    fn zero_limit_faults(&self, faults: &mut Faults) {
        let batch = self.learner.batch_unrolls;
        faults.unless(self.lag.over_limit != OverLimit::DropOldest, || {
            format!(
                "`lag.max_versions` is 0 and `lag.over_limit` is \"drop_oldest\", but a queue of limit * \
                 `learner.batch_unrolls` = 0 * {batch} = 0 unrolls never holds a batch; raise the limit to 1 or more"
            )
        });
    }

    fn target_faults(&self, faults: &mut Faults) {
        let lag = &self.lag;
        faults.unless(lag.target_lag.is_none() || lag.target_ess.is_none(), || {
            format!(
                "`lag.target_lag` and `lag.target_ess` are both set, but each determines the other; set one of them to \
                 \"{NONE}\""
            )
        });
        if let Some(target) = lag.target_ess {
            faults.unless(target > 0.0 && target < 1.0, || {
                format!(
                    "`lag.target_ess` is {target}, but must lie between 0 and 1, both excluded; 0.9 is usual"
                )
            });
        }
        let Some(target) = lag.target_lag else {
            return;
        };
        faults.unless(target > 0.0 && target <= TARGET_LAG_MAX, || {
            format!(
                "`lag.target_lag` is {target}, but must be above 0 and at most {TARGET_LAG_MAX}; 1 to 8 is usual"
            )
        });
        let injected = lag.inject.versions_mean(self.actor.count);
        faults.unless(injected == 0.0 || target > injected, || {
            format!(
                "`lag.target_lag` is {target}, but `lag.inject` = \"{}\" alone makes {injected} on average; raise the \
                 set-point, or inject less",
                lag.inject
            )
        });
        if let Some(limit) = lag.max_versions {
            faults.unless(target <= limit as f64, || {
                format!(
                    "`lag.target_lag` is {target}, but `lag.max_versions` allows {limit}; lower the set-point or raise the \
                     limit"
                )
            });
        }
    }

    /// A limit that throws experience away.
    pub(super) fn lag_advice(&self) -> Option<String> {
        // Not a fault: while nothing is trained the learner's version stands still, so new unrolls have lag 0 and
        // every limit trains something in the end.
        let predicted = self.predicted_lag_max_versions();
        let limit = self.lag.max_versions.filter(|limit| *limit < predicted)?;
        let (cost, cure) = match self.lag.over_limit {
            OverLimit::DropStale | OverLimit::DropOldest => (
                "part of the experience will be thrown away",
                "lower `learner.queue_unrolls`, raise the limit, or set `lag.over_limit` = \"pace\"",
            ),
            OverLimit::Mask | OverLimit::DownWeight => (
                "the policy will learn little from part of the experience",
                "lower `learner.queue_unrolls` or raise the limit",
            ),
            OverLimit::Pace => return None,
        };
        Some(format!(
            "`lag.max_versions` = {limit} is below the lag of {predicted} that queue and outboxes make; {cost}; {cure}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        config.faults()
    }

    #[test]
    fn limits_under_which_nothing_could_be_trained_are_refused_with_the_arithmetic() {
        let limited = |over_limit, limit| {
            faults(|config| {
                config.lag.over_limit = over_limit;
                config.lag.max_versions = limit;
            })
        };
        assert!(
            limited(OverLimit::Pace, Some(0))[0]
                .contains("1 (`learner.reuse`) + 0 (`lag.inject`) = 1 ")
        );
        assert!(limited(OverLimit::DropOldest, Some(0))[0].contains("0 * 2 = 0"));
        for policy in [OverLimit::Pace, OverLimit::Mask, OverLimit::DownWeight] {
            assert_eq!(limited(policy, Some(1)), [""; 0]);
            assert!(limited(policy, None)[0].contains("there is no limit"));
        }
        let late = faults(|config| {
            config.lag.over_limit = OverLimit::Pace;
            config.lag.inject = LagInjection::Fixed(8);
            config.learner.reuse = 2;
            config.lag.max_versions = Some(9);
        });
        assert!(late[0].contains("2 (`learner.reuse`) + 8 (`lag.inject`) = 10 "));
        let crowded = faults(|config| {
            config.lag.over_limit = OverLimit::Pace;
            config.lag.max_versions = Some(8);
            config.actor.outbox_unrolls = 2;
        });
        assert!(crowded[0].contains("set `actor.outbox_unrolls` to 1"));
        assert_eq!(limited(OverLimit::DropStale, Some(0)), [""; 0]);
        assert_eq!(limited(OverLimit::DropOldest, None), [""; 0]);
    }

    #[test]
    fn one_set_point_at_a_time_within_its_range_and_below_the_limit() {
        assert_eq!(faults(|config| config.lag.target_ess = Some(0.9)), [""; 0]);
        assert_eq!(faults(|config| config.lag.target_lag = Some(4.0)), [""; 0]);
        let wrong = faults(|config| {
            config.lag.target_ess = Some(1.0);
            config.lag.target_lag = Some(4.0);
            config.lag.max_versions = Some(3);
        });
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        let below = faults(|config| {
            config.lag.target_lag = Some(4.0);
            config.lag.inject = LagInjection::Uniform(0, 8);
        });
        assert!(below[0].contains("makes 4 on average"), "{below:?}");
        assert_eq!(faults(|config| config.lag.target_lag = Some(0.0)).len(), 1);
        assert_eq!(faults(|config| config.lag.ess_floor = f64::NAN).len(), 1);
    }

    #[test]
    fn parameters_in_flight_have_no_place_in_lock_step_nor_under_lag_on_purpose() {
        let refreshed = |change: fn(&mut Config)| {
            faults(|config| {
                config.actor.refresh = Refresh::Step;
                change(config);
            })
        };
        assert_eq!(refreshed(|_| ()), [""; 0]);
        let lock_step = refreshed(|config| config.run.deterministic = true);
        assert!(lock_step[0].contains("`actor.refresh` is \"step\""));
        let injected = refreshed(|config| config.lag.inject = LagInjection::Fixed(3));
        assert!(injected[0].contains("`lag.inject` is \"fixed:3\""));
    }

    #[test]
    fn central_inference_is_refused_where_it_would_mean_nothing() {
        let central = |change: fn(&mut Config)| {
            faults(|config| {
                config.actor.inference = InferencePlace::Central;
                change(config);
            })
        };
        assert_eq!(central(|_| ()), [""; 0]);
        type Change = fn(&mut Config);
        let cases: [(Change, &str); 4] = [
            (
                |config| config.run.deterministic = true,
                "`run.deterministic` is true",
            ),
            (
                |config| config.lag.inject = LagInjection::Fixed(3),
                "`lag.inject` is \"fixed:3\"",
            ),
            (
                |config| config.actor.refresh = Refresh::Step,
                "`actor.refresh` is \"step\"",
            ),
            (
                |config| config.learner.inference_batch_rows_max = 15,
                "is 15, but one actor alone asks for 16",
            ),
        ];
        for (change, word) in cases {
            let found = central(change);
            assert!(found.len() == 1 && found[0].contains(word), "{found:?}");
        }
    }

    #[test]
    fn a_pace_throws_nothing_away() {
        let mut config = Config::default();
        config.lag.max_versions = Some(1);
        assert!(
            config
                .lag_advice()
                .is_some_and(|advice| advice.contains("thrown away"))
        );
        config.lag.over_limit = OverLimit::Pace;
        assert_eq!(config.lag_advice(), None);
    }
}
