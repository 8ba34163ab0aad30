//! An update, beside the bare loop of as many forward passes, backward passes and steps of Adam; and that loop beside the
//! best that the device does.

use std::time::Duration;

use springbok_common::{policy::multiply_adds, unroll::Unroll};
use springbok_learner::{
    algorithm::{
        returns::Transitions,
        vtrace::{VtraceConfig, vtrace},
    },
    trainer::{batch::Batch, update::Updater},
};

use super::{
    arithmetic::{BACKWARD, Product},
    bare::BareLearner,
    record,
    stage::{Cases, Note, Stage, repeat},
    subject::{Subject, assemble, seconds},
};
use crate::exit::Failure;

/// Times that what is small beside an update is done for its share.
const TIMES: usize = 9;

/// An update on experience of the initial policy, one on a recording if there is one, and the arithmetic.
pub(super) fn cases(subject: &Subject) -> Cases {
    let unrolls = subject.unrolls(subject.config.learner.batch_unrolls)?;
    let arithmetic = Arithmetic::new(subject, &subject.batch(&unrolls));
    let mut cases: Vec<Box<dyn Stage>> = vec![Box::new(Update::new(subject, "update", unrolls))];
    if let Some(path) = &subject.recording {
        let mut recorded = record::read(path, subject)?.unrolls;
        recorded.truncate(subject.config.learner.batch_unrolls);
        cases.push(Box::new(Update::new(subject, "update, recorded", recorded)));
    }
    cases.push(Box::new(arithmetic));
    Ok(cases)
}

/// One update after the other on the same batch.
struct Update {
    case: &'static str,
    updater: Updater,
    /// Little-endian f32 in layout order.
    initial: Vec<u8>,
    bare: BareLearner,
    batch: Batch,
    /// Seconds for what an update takes besides the network.
    besides: Besides,
    last_s: f64,
    measuring_s: f64,
}

/// Seconds of what is done on the host before and after the network has its turn.
struct Besides {
    batching: f64,
    vtrace: f64,
}

impl Update {
    fn new(subject: &Subject, case: &'static str, unrolls: Vec<Unroll>) -> Self {
        let mut batch = subject.batch(&unrolls);
        let updater = Updater::new(&subject.config, &subject.agreement, subject.device.clone());
        let batching = seconds(TIMES, || assemble(&mut batch, &unrolls, &subject.agreement));
        let besides = Besides {
            batching,
            vtrace: of_vtrace(&batch),
        };
        Self {
            case,
            bare: BareLearner::new(subject, &batch),
            initial: updater.parameters().to_vec(),
            updater,
            batch,
            besides,
            last_s: f64::NAN,
            measuring_s: f64::NAN,
        }
    }
}

/// Seconds for the targets of `batch`.
fn of_vtrace(batch: &Batch) -> f64 {
    let values = vec![0.5_f32; batch.steps()];
    let transitions = Transitions {
        rewards: &batch.rewards,
        values: &values,
        next_values: &values,
        outcomes: &batch.outcomes,
        columns: batch.columns,
    };
    let log_rhos = vec![0.0_f32; batch.steps()];
    seconds(TIMES, || {
        std::hint::black_box(vtrace(&transitions, &log_rhos, &VtraceConfig::default()));
    })
}

impl Stage for Update {
    fn case(&self) -> String {
        self.case.to_owned()
    }

    fn unit(&self) -> &'static str {
        "steps/s"
    }

    fn against(&self) -> &'static str {
        "bare forward, backward and optimiser"
    }

    fn ours(&mut self, slice: Duration) -> Result<f64, Failure> {
        // Thousands of updates on one batch would lead far from the policy that made it.
        self.updater
            .load_parameters(&self.initial)
            .map_err(Failure::internal)?;
        let (updater, batch) = (&mut self.updater, &self.batch);
        let mut measuring = Duration::ZERO;
        let mut updates = 0_u32;
        let rate = repeat(slice, || {
            let metrics = updater.update(batch, 1.0).map_err(Failure::internal)?;
            measuring += metrics.measuring;
            updates += 1;
            Ok(batch.steps() as f64)
        })?;
        self.last_s = batch.steps() as f64 / rate;
        self.measuring_s = measuring.as_secs_f64() / f64::from(updates.max(1));
        Ok(rate)
    }

    fn ceiling(&mut self, slice: Duration) -> Result<f64, Failure> {
        let steps = self.batch.steps() as f64;
        repeat(slice, || {
            self.bare.update();
            Ok(steps)
        })
    }

    fn notes(&self) -> Vec<Note> {
        let share = |part: f64| part / (self.last_s + self.besides.batching);
        let (batching, targets) = (share(self.besides.batching), share(self.besides.vtrace));
        let metrics = share(self.measuring_s);
        vec![
            ("milliseconds of an update".to_owned(), 1e3 * self.last_s),
            ("share of batching".to_owned(), batching),
            ("share of V-trace".to_owned(), targets),
            ("share of metrics".to_owned(), metrics),
            (
                "share of these three".to_owned(),
                batching + targets + metrics,
            ),
        ]
    }
}

/// The bare loop, counted in multiply-adds, beside products of large matrices.
struct Arithmetic {
    bare: BareLearner,
    multiply_adds: f64,
    product: Product,
}

impl Arithmetic {
    fn new(subject: &Subject, batch: &Batch) -> Self {
        let bare = BareLearner::new(subject, batch);
        let of_row = multiply_adds(&subject.agreement.network);
        Self {
            multiply_adds: bare.rows_of_update() as f64 * of_row * (1.0 + BACKWARD),
            bare,
            product: Product::on(&subject.device),
        }
    }
}

/// Multiply-adds in a unit of the report.
const GIGA: f64 = 1e9;

impl Stage for Arithmetic {
    fn case(&self) -> String {
        "the bare loop's arithmetic".to_owned()
    }

    fn unit(&self) -> &'static str {
        "G multiply-adds/s"
    }

    fn against(&self) -> &'static str {
        "products of large square matrices on this device"
    }

    fn ours(&mut self, slice: Duration) -> Result<f64, Failure> {
        let multiply_adds = self.multiply_adds / GIGA;
        repeat(slice, || {
            self.bare.update();
            Ok(multiply_adds)
        })
    }

    fn ceiling(&mut self, slice: Duration) -> Result<f64, Failure> {
        Ok(self.product.rate(slice)? / GIGA)
    }
}
