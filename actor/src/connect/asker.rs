//! The stream of actions: carries questions of the rollout thread to the learner, and its answers back.

use std::{sync::Arc, time::Instant};

use springbok_common::{
    unroll::Agreement,
    wire::{decode_acted, encode_observed},
};
use springbok_proto::v1::{self, act_request};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{HANDSHAKE_TIMEOUT, Joined, bounded_client, causes, hello};
use crate::{
    acting::{Line, Question, Reply},
    session::LearnerLife,
};

/// The far end of a [`Line`].
pub(super) struct Asker {
    agreement: Agreement,
    outgoing: mpsc::Sender<v1::ActRequest>,
    incoming: Streaming<v1::ActReply>,
    questions: mpsc::Receiver<Question>,
}

impl Asker {
    /// Says hello and opens the stream; the line to it goes to `lines`.
    ///
    /// # Errors
    /// Why the learner's answer did not come.
    pub(super) async fn open(
        joined: &Joined,
        agreement: &Agreement,
        lines: &Arc<watch::Sender<Option<Line>>>,
    ) -> Result<Self, String> {
        // One question is under way at a time, behind a hello.
        let (outgoing, requests) = mpsc::channel(2);
        let (ask, questions) = mpsc::channel(1);
        let greeting = act_request::Kind::Hello(hello(joined));
        let greeting = v1::ActRequest {
            kind: Some(greeting),
        };
        // There is room, and a receiver.
        let _ = outgoing.try_send(greeting);
        let requests = joined.credentials.call(ReceiverStream::new(requests));
        let mut client = bounded_client(joined);
        let incoming = timeout(HANDSHAKE_TIMEOUT, client.act(requests))
            .await
            .map_err(|_| "it did not open the stream of actions in time".to_owned())?
            .map_err(|status| causes(&status))?
            .into_inner();
        lines.send_replace(Some(Line {
            life: LearnerLife {
                run_id: joined.terms.run_id,
                epoch: joined.terms.epoch,
            },
            questions: ask,
        }));
        Ok(Self {
            agreement: agreement.clone(),
            outgoing,
            incoming,
            questions,
        })
    }

    /// Answers until the learner ends the stream; says why. What is asked then, or later, gets no answer.
    pub(super) async fn answer_all(mut self) -> String {
        loop {
            let question = tokio::select! {
                biased;
                // Nothing is owed, so whatever comes is the end.
                end = self.incoming.message() => return match end {
                    Ok(Some(_)) => "it sent actions that nobody had asked for".to_owned(),
                    Ok(None) => "it ended the stream of actions".to_owned(),
                    Err(status) => causes(&status),
                },
                question = self.questions.recv() => question,
            };
            let Some(question) = question else {
                return "nobody asks any more".to_owned();
            };
            if let Err(cause) = self.answer(question).await {
                return cause;
            }
        }
    }

    async fn answer(&mut self, question: Question) -> Result<(), String> {
        let observed = act_request::Kind::Observed(encode_observed(question.observed.parts()));
        let request = v1::ActRequest {
            kind: Some(observed),
        };
        let sent = self.outgoing.send(request).await;
        sent.map_err(|_| "it closed the stream of actions".to_owned())?;
        let reply = match self.incoming.message().await {
            Ok(Some(reply)) => reply,
            Ok(None) => return Err("it ended the stream of actions".to_owned()),
            Err(status) => return Err(causes(&status)),
        };
        let acted = decode_acted(reply, &self.agreement)
            .map_err(|reason| format!("it sent actions that cannot be taken: {reason}"))?;
        let wants_states = question.observed.parts().wants_states;
        let states = self.agreement.rollout.environments * self.agreement.network.state_len();
        if wants_states && acted.parts().states.len() != states {
            return Err("it sent no recurrent states".to_owned());
        }
        // A rollout that was given up waits for nothing.
        let _ = question.answer.send(Reply {
            acted,
            received: Instant::now(),
        });
        Ok(())
    }
}
