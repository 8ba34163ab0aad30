//! What watches a learner: Prometheus, Grafana, the autoscaler. What they ask for is there, under the names they use.

use std::{path::Path, process::Command};

use springbok_learner::monitor::exposition::families;

use crate::{BINARY, at, keys, manifests::address, read};

const COMPOSE: &str = "deploy/compose/monitoring.yaml";
const OVERLAY: &str = "deploy/kubernetes/overlays/monitoring";

/// What follows `before` in `text`, to the end of the line, without quotes.
fn after<'a>(text: &'a str, before: &str) -> &'a str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("no {before}"));
    let line = rest.lines().next().unwrap_or_default();
    line.trim_end_matches(" |").trim_matches(['"', '\''])
}

fn port_of_page(configuration: &str) -> String {
    let page = address(configuration, "telemetry", "http");
    page.rsplit_once(':').unwrap().1.to_owned()
}

/// That the learner accepts `page` as its address, beyond the loopback interface, with the keys that it has there.
fn assert_accepted(configuration: &str, page: &str) {
    let made = keys();
    let check = Command::new(BINARY)
        .args(["config", "check", "--config"])
        .arg(at(configuration))
        .arg("--keys")
        .arg(made.path().join("keys"))
        .env("SPRINGBOK__TELEMETRY__HTTP", page)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{configuration}: {said}");
}

#[test]
fn compose_scrapes_the_learners_page_and_shows_it_a_secret() {
    let overlay = read(COMPOSE);
    let port = port_of_page("deploy/compose/springbok.toml");
    let page = after(&overlay, "SPRINGBOK__TELEMETRY__HTTP: ");
    assert_eq!(page, format!("0.0.0.0:{port}"));
    assert_accepted("deploy/compose/springbok.toml", page);
    let prometheus = read("deploy/compose/monitoring/prometheus.yaml");
    assert!(prometheus.contains(&format!("targets: [\"learner:{port}\"]")));

    let token = after(&prometheus, "credentials_file: ");
    let secret = token.strip_prefix("/run/secrets/").unwrap();
    assert!(overlay.contains(&format!("secrets: [{secret}]")));
    let source = read("deploy/compose/monitoring/grafana-datasource.yaml");
    let url = after(&source, "url: http://");
    let (service, _) = url.split_once(':').unwrap();
    assert!(overlay.contains(&format!("\n  {service}:\n")), "{url}");
}

#[test]
fn compose_mounts_what_prometheus_and_grafana_read() {
    let overlay = read(COMPOSE);
    let rules = read("deploy/compose/monitoring/prometheus.yaml");
    let dashboards = read("deploy/compose/monitoring/grafana-dashboards.yaml");
    let wanted = [
        after(&overlay, "--config.file="),
        after(&rules, "rule_files:\n  - "),
        after(&dashboards, "path: "),
        "/etc/grafana/provisioning/datasources/",
        "/etc/grafana/provisioning/dashboards/",
    ];
    let mounts: Vec<(&str, &str)> = overlay
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ."))
        .map(|mount| mount.strip_suffix(":ro").unwrap().split_once(':').unwrap())
        .collect();
    assert_eq!(mounts.len(), wanted.len());
    for target in wanted {
        let found = mounts.iter().find(|(_, mount)| mount.starts_with(target));
        let (source, _) = found.unwrap_or_else(|| panic!("nothing is mounted at {target}"));
        let source = Path::new("deploy/compose").join(format!(".{source}"));
        assert!(at(source.to_str().unwrap()).is_file(), "{source:?}");
    }
}

#[test]
fn the_autoscaler_asks_for_a_metric_that_is_made_of_one_that_exists() {
    let scaler = read(&format!("{OVERLAY}/autoscaling.yaml"));
    let adapter = read(&format!("{OVERLAY}/adapter.yaml"));
    let made = after(&adapter, "as: ");
    assert_eq!(after(&scaler, "metric:\n          name: "), made);
    let (series, _) = after(&adapter, "seriesQuery: ").split_once('{').unwrap();
    let exists = families().iter().any(|(name, _)| name == series);
    assert!(exists, "{series}");

    // It never wants more than the learner lets in.
    let most: u64 = after(&scaler, "maxReplicas: ").parse().unwrap();
    let configuration = read("deploy/kubernetes/overlays/tls/springbok.toml");
    let configuration: toml::Table = configuration.parse().unwrap();
    let places = configuration["limits"]["actors_max"].as_integer().unwrap();
    assert!(most <= places.unsigned_abs(), "{most} of {places}");
    // And scales what there is.
    let actors = read("deploy/kubernetes/base/actors.yaml");
    assert_eq!(
        after(&scaler, "kind: Deployment\n    name: "),
        after(&actors, "  name: ")
    );
    let learner = read("deploy/kubernetes/base/learner.yaml");
    let pod = format!("{}-0", after(&learner, "  name: "));
    assert_eq!(after(&scaler, "kind: Pod\n          name: "), pod);
}

#[test]
fn kubernetes_scrapes_the_port_of_the_page() {
    let overlay = read(&format!("{OVERLAY}/kustomization.yaml"));
    let port = port_of_page("deploy/kubernetes/overlays/tls/springbok.toml");
    let page = after(
        &overlay,
        "- name: SPRINGBOK__TELEMETRY__HTTP\n            value: ",
    );
    assert_eq!(page, format!("0.0.0.0:{port}"));
    assert_accepted("deploy/kubernetes/overlays/tls/springbok.toml", page);
    assert_eq!(after(&overlay, "containerPort: "), port);
    let network = read(&format!("{OVERLAY}/network.yaml"));
    assert_eq!(after(&network, "port: "), port);
    let scrape = read(&format!("{OVERLAY}/scrape.yaml"));
    let name = after(
        &overlay,
        "path: /spec/template/spec/containers/0/ports/-\n        value:\n          name: ",
    );
    assert_eq!(after(&scrape, "regex: "), format!("learner;{name}"));
}

/// Names an interpreter that has kubernetes-validate; without it nothing is validated here.
const VALIDATOR: &str = "SPRINGBOK_TEST_KUBERNETES_PYTHON";

#[test]
fn kubernetes_takes_every_manifest() {
    let Some(python) = std::env::var_os(VALIDATOR) else {
        return;
    };
    let output = Command::new(at("deploy/kubernetes/validate.sh"))
        .env("PYTHON", python)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let counted = String::from_utf8_lossy(&output.stdout);
    let count: usize = counted.split(' ').next().unwrap().parse().unwrap();
    assert!(count >= 26, "{counted}");
}
