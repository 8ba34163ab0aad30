//! One step of the policy within a trust region (TRPO): what `algorithm::trust_region` needs from the network.

use std::ops::Range;

use burn::{module::Module, optim::GradientsParams, tensor::Tensor};
use springbok_common::policy::{ActorCritic, Distribution, export_flat, import_flat};

use super::{
    Arrival, Material, Plan, Rates, Updater,
    minibatch::{Minibatch, Tracking},
    pick::Pick,
    staged::read,
};
use crate::algorithm::{
    gradient::{flatten, places},
    trust_region::{
        Accepted, Trial, TrustRegionConfig, conjugate_gradient, dot, full_step, line_search,
    },
};

/// Length of the difference of parameters that stands for a derivative: where truncation and the rounding of f32 weigh
/// about the same.
const DIFFERENCE_NORM: f64 = 0.02;

/// What the search for a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrustRegionMetrics {
    /// Share of the full step that was taken; 0 if none was.
    pub step_fraction: f64,
    /// Mean KL(pi_prox || pi) of what was taken, in nats.
    pub kl: f64,
    /// Relative residual of the equation for the direction.
    pub cg_residual: f64,
}

/// A part of the batch, the same rows with and without gradients.
struct Piece {
    tracked: Minibatch,
    still: Minibatch,
    /// The policy before the step, without gradients.
    proximal: Distribution,
}

/// The policy's parameters as a point to step from.
struct Point {
    /// All parameters of the network, in layout order.
    flat: Vec<f32>,
    /// Where those of the policy are.
    places: Vec<Range<usize>>,
}

/// One search.
struct Search<'a> {
    updater: &'a Updater,
    config: TrustRegionConfig,
    entropy: f64,
    point: Point,
    /// The whole batch.
    pieces: Vec<Piece>,
    /// What the curvature is taken from, if that is not the whole batch.
    sample: Option<Vec<Piece>>,
}

impl Updater {
    /// Moves the policy, and nothing else, by the longest step that is accepted; leaves it as it is if none is. The rows of
    /// the plan's first pass are the batch, its minibatches the parts in which it is run. `None` without a trust region or
    /// when the run is to stop.
    pub(super) fn improve(
        &mut self,
        material: &Material<'_>,
        arrival: &Arrival,
        plan: &Plan,
        rates: &Rates,
    ) -> Option<TrustRegionMetrics> {
        let search = self.search(material, arrival, plan, rates)?;
        let (model, metrics) = search.run()?;
        if let Some(model) = model {
            self.learnt.model = model;
        }
        Some(metrics)
    }

    /// The search from where the policy is now; `None` without a trust region.
    fn search(
        &self,
        material: &Material<'_>,
        arrival: &Arrival,
        plan: &Plan,
        rates: &Rates,
    ) -> Option<Search<'_>> {
        let config = self.config.trust_region?;
        let minibatches = plan.first()?;
        let numbers = arrival.numbers();
        let pieces = |minibatches: &[Vec<usize>]| -> Vec<Piece> {
            let picks = self.pick(material, &numbers, minibatches);
            let pieces = picks.iter().map(|pick| self.piece(material, arrival, pick));
            pieces.collect()
        };
        let sample = (config.fisher_stride > 1).then(|| {
            // The plan is shuffled, so that these are random ones.
            let units = minibatches.iter().flatten().copied();
            let units: Vec<usize> = units.step_by(config.fisher_stride).collect();
            let size = minibatches.first().map_or(1, Vec::len).max(1);
            let chunks: Vec<Vec<usize>> = units.chunks(size).map(<[usize]>::to_vec).collect();
            pieces(&chunks)
        });
        Some(Search {
            updater: self,
            config,
            entropy: rates.entropy,
            point: Point::of(&self.learnt.model),
            pieces: pieces(minibatches),
            // All of its rows may be void.
            sample: sample.filter(|sample| !sample.is_empty()),
        })
    }

    fn piece(&self, material: &Material<'_>, arrival: &Arrival, pick: &Pick) -> Piece {
        let gather = |tracking| self.gather(material, arrival, pick, tracking);
        let (tracked, still) = (gather(Tracking::Gradients), gather(Tracking::None));
        let parameters = still.input.policy(&self.learnt.model.valid());
        Piece {
            proximal: Distribution::new(&self.actions, parameters, still.mask.clone()),
            tracked,
            still,
        }
    }
}

impl Search<'_> {
    /// The network after the step, if one was accepted; `None` if the run is to stop.
    fn run(&self) -> Option<(Option<ActorCritic>, TrustRegionMetrics)> {
        let gradient = self.gradient()?;
        let iterations = self.config.cg_iterations;
        let solution = conjugate_gradient(|v| self.damped_product(v), &gradient, iterations)?;
        let image = self.damped_product(&solution.x)?;
        let accepted = match full_step(&solution.x, &image, self.config.kl_max) {
            Some(step) => self.accepted(&step)?,
            None => None,
        };
        let (model, taken) = accepted.unzip();
        let taken = taken.unwrap_or(Accepted {
            fraction: 0.0,
            trial: Trial { gain: 0.0, kl: 0.0 },
        });
        let metrics = TrustRegionMetrics {
            step_fraction: taken.fraction,
            kl: taken.trial.kl,
            cg_residual: solution.residual,
        };
        Some((model, metrics))
    }

    /// The longest share of `step` that is accepted, if one is; `None` if the run is to stop.
    fn accepted(&self, step: &[f64]) -> Option<Option<(ActorCritic, Accepted)>> {
        let still = self.updater.learnt.model.valid();
        let (before, _) = self.surrogate(&still);
        let accepted = line_search(self.config.kl_max, |fraction| {
            if self.stopped() {
                return None;
            }
            let model = self.point.moved(still.clone(), step, fraction)?;
            let (after, kl) = self.surrogate(&model);
            Some(Trial {
                gain: after - before,
                kl,
            })
        });
        if self.stopped() {
            return None;
        }
        // The same bytes as those that were tried.
        Some(accepted.and_then(|accepted| {
            let tracked = self.updater.learnt.model.clone();
            let model = self.point.moved(tracked, step, accepted.fraction)?;
            Some((model, accepted))
        }))
    }

    fn stopped(&self) -> bool {
        self.updater.stop.is_cancelled()
    }

    /// The gradient of the surrogate by the policy's parameters, to climb.
    fn gradient(&self) -> Option<Vec<f64>> {
        let updater = self.updater;
        self.summed(&self.pieces, |piece, model| {
            let parameters = piece.tracked.input.policy(model);
            let terms = updater.policy_terms(&piece.tracked, parameters);
            terms.entropy.mul_scalar(self.entropy) - terms.loss
        })
    }

    /// (F + damping I) `vector`.
    ///
    /// F is the mean over rows of J' M J, with J the derivative of the distribution's parameters by those of the policy and
    /// M its own Fisher matrix: J `vector` is a central difference, M is known, and J' is one backward pass. It takes no
    /// derivative of second order, and stays positive up to the error of the difference.
    fn damped_product(&self, vector: &[f64]) -> Option<Vec<f64>> {
        let norm = dot(vector, vector).sqrt();
        if norm.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
            return Some(vec![0.0; vector.len()]);
        }
        let size = DIFFERENCE_NORM / norm;
        let still = self.updater.learnt.model.valid();
        let ahead = self.point.moved(still.clone(), vector, size)?;
        let behind = self.point.moved(still, vector, -size)?;
        let sample = self.sample.as_ref().unwrap_or(&self.pieces);
        let mut product = self.summed(sample, |piece, model| {
            let of = |model: &ActorCritic| piece.still.input.policy(model);
            let change = (of(&ahead) - of(&behind)).div_scalar(2.0 * size);
            let pulled = piece.proximal.fisher_product(change).autodiff();
            let outputs = piece.tracked.input.policy(model);
            (outputs * pulled).sum_dim(1).mean()
        })?;
        for (product, element) in product.iter_mut().zip(vector) {
            *product += self.config.damping * element;
        }
        Some(product)
    }

    /// The gradient by the policy's parameters of the mean over all rows of `pieces` of what `mean` `[1]` says of one piece
    /// and the network; `None` if the run is to stop.
    fn summed(
        &self,
        pieces: &[Piece],
        mean: impl Fn(&Piece, &ActorCritic) -> Tensor<1>,
    ) -> Option<Vec<f64>> {
        let model = &self.updater.learnt.model;
        let ids = model.policy_parameter_ids();
        let rows = rows_of(pieces);
        let mut total: Option<Tensor<1>> = None;
        for piece in pieces {
            if self.stopped() {
                return None;
            }
            let gradients = mean(piece, model).backward();
            let gradients = GradientsParams::from_grads(gradients, model);
            let share = piece.still.rows.len() as f64 / rows;
            let own = flatten(model, &gradients, |id| ids.contains(&id))?.mul_scalar(share);
            total = Some(match total {
                Some(total) => total + own,
                None => own,
            });
        }
        Some(read(total?).into_iter().map(f64::from).collect())
    }

    /// The surrogate with its entropy, and the mean divergence from the policy before the step in nats, for `model`, which
    /// tracks no gradients.
    fn surrogate(&self, model: &ActorCritic) -> (f64, f64) {
        let updater = self.updater;
        let rows = rows_of(&self.pieces);
        let mut sums = [0.0; 2];
        for piece in &self.pieces {
            let parameters = piece.still.input.policy(model);
            let terms = updater.policy_terms(&piece.still, parameters);
            let surrogate = terms.entropy.mul_scalar(self.entropy) - terms.loss;
            let divergence = piece.proximal.kl(&terms.distribution).mean();
            let share = piece.still.rows.len() as f64 / rows;
            let own = read(Tensor::cat(vec![surrogate, divergence], 0));
            for (sum, own) in sums.iter_mut().zip(own) {
                *sum += share * f64::from(own);
            }
        }
        let [surrogate, divergence] = sums;
        (surrogate, divergence)
    }
}

impl Point {
    fn of(model: &ActorCritic) -> Self {
        let flat = export_flat(model);
        let (words, _) = flat.as_chunks::<4>();
        Self {
            flat: words.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            places: places(model, &model.policy_parameter_ids()),
        }
    }

    /// `model` with the policy `factor` * `step` away from here.
    fn moved(&self, model: ActorCritic, step: &[f64], factor: f64) -> Option<ActorCritic> {
        let mut flat = self.flat.clone();
        let own = self.places.iter().cloned().flatten();
        for (place, element) in own.zip(step) {
            let own = &mut flat[place];
            *own = (f64::from(*own) + factor * element) as f32;
        }
        let bytes: Vec<u8> = flat.into_iter().flat_map(f32::to_le_bytes).collect();
        import_flat(model, &bytes).ok()
    }
}

/// Rows of all pieces together.
fn rows_of(pieces: &[Piece]) -> f64 {
    pieces
        .iter()
        .map(|piece| piece.still.rows.len())
        .sum::<usize>() as f64
}

#[cfg(test)]
mod tests;
