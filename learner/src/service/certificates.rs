//! The learner's certificate, followed as its files change; and the servers that show it: one for each certificate that
//! an open connection was greeted with, so that a new certificate disturbs nobody.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    task::{JoinSet, spawn_blocking},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Error, Server, ServerTlsConfig},
};

use super::incoming::Connection;
use crate::security::Tls;

/// The way into a server.
pub(super) type Entrance<S> = mpsc::Sender<io::Result<Connection<S>>>;

/// TLS as the files of `tls` say, until `stop`.
pub(super) fn keep(tls: Tls, stop: CancellationToken) -> watch::Receiver<ServerTlsConfig> {
    let (newest, receiver) = watch::channel(tls.files.config(&tls.material));
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(tls, &newest) => {}
        }
    });
    receiver
}

async fn follow(mut tls: Tls, newest: &watch::Sender<ServerTlsConfig>) {
    let (mut fault, mut told) = (String::new(), false);
    loop {
        sleep(tls.refresh).await;
        let (files, known) = (tls.files.clone(), tls.material.clone());
        let Ok(read) = spawn_blocking(move || files.read_anew(Some(&known))).await else {
            continue;
        };
        match read {
            Ok((material, changed)) => {
                (fault, told) = (String::new(), false);
                if changed {
                    newest.send_replace(tls.files.config(&material));
                    tls.material = material;
                    tracing::info!("the certificate has changed, for connections from now on");
                }
            }
            Err(error) => {
                let text = error.to_string();
                // Certificate and key cannot be replaced in one moment, so only what lasts is a fault.
                if text != fault {
                    (fault, told) = (text, false);
                } else if !told {
                    told = true;
                    tracing::warn!("the certificate stays as it was: {fault}");
                }
            }
        }
    }
}

/// What answers, however a connection came about.
#[derive(Clone)]
pub(super) struct Servers {
    pub(super) server: Server,
    pub(super) routes: Routes,
    /// Ends them all.
    pub(super) stop: CancellationToken,
}

impl Servers {
    /// Answers on the connections of `accepted`, each with the TLS that is the newest when it is accepted; `None` speaks
    /// none. Ends after the last connection.
    ///
    /// # Errors
    /// What the transport says.
    pub(super) async fn serve<S>(
        self,
        mut accepted: mpsc::Receiver<Connection<S>>,
        mut tls: Option<watch::Receiver<ServerTlsConfig>>,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut running = JoinSet::new();
        let mut newest = self.begin(&mut running, tls.as_mut())?;
        loop {
            tokio::select! {
                connection = accepted.recv() => {
                    let Some(connection) = connection else { break };
                    let connection = connection.entering(newest.clone());
                    if newest.send(Ok(connection)).await.is_err() {
                        // Nobody would be let in any more.
                        let ended = running.join_next().await;
                        return ended.and_then(Result::ok).unwrap_or(Ok(()));
                    }
                }
                () = changed(&mut tls) => newest = self.begin(&mut running, tls.as_mut())?,
                Some(ended) = running.join_next() => ended.unwrap_or(Ok(()))?,
            }
        }
        drop(newest);
        while let Some(ended) = running.join_next().await {
            ended.unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    /// Starts a server. It ends when nobody can enter any more and the last connection, which holds its entrance open, has
    /// ended.
    fn begin<S>(
        &self,
        running: &mut JoinSet<Result<(), Error>>,
        tls: Option<&mut watch::Receiver<ServerTlsConfig>>,
    ) -> Result<Entrance<S>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut server = self.server.clone();
        if let Some(tls) = tls {
            let config = tls.borrow_and_update().clone();
            server = server.tls_config(config)?;
        }
        let (entrance, incoming) = mpsc::channel(1);
        let router = server.add_routes(self.routes.clone());
        let stopped = self.stop.clone().cancelled_owned();
        let incoming = ReceiverStream::new(incoming);
        running.spawn(router.serve_with_incoming_shutdown(incoming, stopped));
        Ok(entrance)
    }
}

/// Waits for another certificate.
async fn changed(tls: &mut Option<watch::Receiver<ServerTlsConfig>>) {
    if let Some(tls) = tls
        && tls.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
