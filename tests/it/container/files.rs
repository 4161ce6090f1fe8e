//! The Dockerfile, the image's configuration and the compose file agree with each other, with the program, and with the files
//! that they name.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{CommandFactory, Parser};
use pgcorral::cli::{Cli, Command};
use pgcorral::config::{Config, ProcessEnvironment, admin_address};
use pgcorral::net::ListenAddress;
use serde_json::Value;

use super::dockerfile::{self, Instruction, list, only};
use super::{entries, in_repository, text, words, yaml};
use crate::Test;

pub const TESTS: &[Test] = &[
    ("compose_follows_its_schema", |_| schema()),
    ("compose_services_fit_together", |_| services()),
    ("compose_ports_are_listened_on", |_| ports()),
    ("compose_variables_are_read_by_somebody", |_| variables()),
    ("compose_proxy_reaches_its_database", |_| proxy()),
    ("compose_prometheus_and_grafana_find_their_files", |_| monitoring()),
    ("compose_load_test_is_a_plan", |_| load_test()),
    ("dockerfile_copies_what_there_is", |_| copies()),
    ("dockerfile_runs_the_program", |_| runs()),
];

const COMPOSE: &str = "config/compose.yaml";
const OWN_CONFIG: &str = "config/container.toml";
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn compose() -> Value {
    yaml(COMPOSE)
}

fn instructions() -> Vec<Instruction> {
    dockerfile::read(&text("Dockerfile"))
}

/// `key=value` of a section.
#[track_caller]
fn value<'v>(section: &'v Value, key: &str) -> &'v str {
    section[key].as_str().unwrap_or_else(|| panic!("no {key} in {section}"))
}

fn schema() {
    let schema: Value = serde_json::from_str(&text("tests/compose/compose-spec.json")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let faults = |file: &Value| -> Vec<String> {
        let name = |fault: jsonschema::ValidationError<'_>| format!("{}: {fault}", fault.instance_path());
        validator.iter_errors(file).map(name).collect()
    };
    let mut file = compose();
    assert_eq!(faults(&file), Vec::<String>::new());
    file["services"]["pgcorral"]["depends_on"]["postgres"]["condition"] = "service_is_fine".into();
    file["services"]["pgcorral"]["helthcheck"] = Value::Bool(true);
    assert_eq!(faults(&file).len(), 2, "it finds what is wrong: {:?}", faults(&file));
}

fn services() {
    let file = compose();
    let instructions = instructions();
    let services = &file["services"];
    let names: Vec<&String> = entries(services).map(|(name, _)| name).collect();
    assert_eq!(names, ["grafana", "loadtest", "pgcorral", "postgres", "prometheus"]);
    for (name, service) in entries(services) {
        let (_, tag) = value(service, "image").rsplit_once(':').expect("a tag");
        assert!(
            tag.split('.').count() >= 2
                && tag.starts_with(|first: char| first.is_ascii_digit() || first == 'v'),
            "{name}: {tag}"
        );
        if let Some(build) = service.get("build") {
            assert_eq!(tag, VERSION);
            assert!(in_repository("config").join(value(build, "context")).join("Dockerfile").is_file());
            let target = value(build, "target");
            assert!(instructions.iter().any(|one| one.stage == target), "{name}: no stage {target}");
        }
        for volume in words(&service["volumes"]) {
            let [source, to, "ro"] = volume.split(':').collect::<Vec<_>>()[..] else { panic!("{volume}") };
            assert!(in_repository("config").join(source).exists(), "{name}: there is no {source}");
            assert!(Path::new(to).is_absolute(), "{volume}");
        }
        for (other, needed) in entries(&service["depends_on"]) {
            assert_eq!(value(needed, "condition"), "service_healthy");
            assert!(
                services[other].get("healthcheck").is_some(),
                "{name} waits for {other}, whose health nobody asks for"
            );
        }
        if let Some(network) = service["network_mode"].as_str() {
            let owner = network.strip_prefix("service:").expect("another service's");
            // Compose starts it before, unasked; and its ports are published there.
            assert!(services.get(owner).is_some() && service.get("ports").is_none(), "{name}");
        }
    }
    assert_eq!(value(&services["loadtest"], "restart"), "no", "it is to run once");
}

/// The port that the image listens on, and the one of its admin address.
fn own_ports() -> (u16, u16) {
    let flags = ["pgcorral", "serve", "--upstream", "postgres://app:secret@db/app", "--config"];
    let config = configured(&flags);
    let [ListenAddress::Tcp(listen)] = config.listen[..] else { panic!("{:?}", config.listen) };
    let admin = config.admin.expect("an admin address").address;
    assert!(
        listen.ip().is_unspecified() && admin.ip().is_unspecified(),
        "loopback of a container is nobody's"
    );
    (listen.port(), admin.port())
}

/// What `serve` makes of these words and the image's configuration file.
#[track_caller]
fn configured(command: &[&str]) -> Config {
    let file = in_repository(OWN_CONFIG);
    let words = command.iter().copied().chain([file.to_str().expect("UTF-8")]);
    let Ok(Cli { command: Command::Serve(flags), .. }) = Cli::try_parse_from(words) else {
        panic!("{command:?} is no command line")
    };
    Config::from_flags(&flags, &ProcessEnvironment).unwrap_or_else(|errors| panic!("{errors}"))
}

fn ports() {
    let file = compose();
    let (own, admin) = own_ports();
    let prometheus = yaml("config/grafana/provisioning/datasources/prometheus.yml");
    let url = value(&prometheus["datasources"][0], "url");
    let (_, prometheus) = url.rsplit_once(':').expect("a port");
    let prometheus: u16 = prometheus.parse().expect("a port");
    // Grafana's own default; what its health check asks has it, too.
    let grafana = 3000;
    assert!(file["services"]["grafana"]["healthcheck"]["test"].to_string().contains(":3000/api/health"));
    assert!(
        file["services"]["prometheus"]["healthcheck"]["test"]
            .to_string()
            .contains(&format!("{prometheus}/-/ready"))
    );
    let published = words(&file["services"]["pgcorral"]["ports"]);
    let wanted = [own, admin, prometheus, grafana].map(|port| format!("127.0.0.1:{port}:{port}"));
    assert_eq!(published, wanted, "all that share its network, and on loopback only");
    for (name, service) in entries(&file["services"]) {
        assert!(name == "pgcorral" || service.get("ports").is_none(), "{name}");
    }
    assert_eq!(only(&instructions(), "pgcorral", "EXPOSE"), format!("{own} {admin}"));
}

fn variables() {
    let file = compose();
    assert!(!text(COMPOSE).contains('$'), "nothing has to be set before it can be started");
    let cli = Cli::command();
    let ours: BTreeSet<&str> = cli
        .get_subcommands()
        .flat_map(|command| command.get_arguments())
        .filter_map(|flag| flag.get_env()?.to_str())
        .collect();
    // What the images' documentation has; nothing here can ask them.
    let postgres = BTreeSet::from(["POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"]);
    let grafana = BTreeSet::from([
        "GF_AUTH_ANONYMOUS_ENABLED",
        "GF_AUTH_ANONYMOUS_ORG_ROLE",
        "GF_ANALYTICS_REPORTING_ENABLED",
        "GF_ANALYTICS_CHECK_FOR_UPDATES",
    ]);
    let command = file["services"]["loadtest"]["command"].to_string();
    for (name, service) in entries(&file["services"]) {
        for (variable, value) in entries(&service["environment"]) {
            assert!(value.is_string(), "{name}: {variable} is to be a text");
            let is_read = match name.as_str() {
                "pgcorral" => ours.contains(variable.as_str()),
                "postgres" => postgres.contains(variable.as_str()),
                "grafana" => grafana.contains(variable.as_str()),
                "loadtest" => command.contains(&format!("=env:{variable}\"")),
                _ => false,
            };
            assert!(is_read, "{name}: nobody reads {variable}");
        }
    }
    assert_eq!(
        command.matches("=env:").count(),
        entries(&file["services"]["loadtest"]["environment"]).count()
    );
    for (variable, _) in
        only(&instructions(), "pgcorral", "ENV").split(' ').filter_map(|pair| pair.split_once('='))
    {
        assert!(ours.contains(variable), "{variable}");
    }
}

fn proxy() {
    let file = compose();
    let services = &file["services"];
    let environment = &services["postgres"]["environment"];
    let [user, password, database] =
        ["POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"].map(|key| value(environment, key));
    let url = |address: &str| format!("postgres://{user}:{password}@{address}/{database}");
    let proxy = &services["pgcorral"]["environment"];
    let upstream = value(proxy, "PGCORRAL_UPSTREAM");
    let size = value(proxy, "PGCORRAL_POOL_SIZE");
    assert_eq!(upstream, url("postgres:5432"));
    let config = configured(&["pgcorral", "serve", "--upstream", upstream, "--pool-size", size, "--config"]);
    assert_eq!(config.upstreams.len(), 1);
    let command = words(&services["postgres"]["command"]);
    assert_eq!(command, ["postgres", "-c", "max_connections=60"]);
    assert!(size.parse::<u32>().expect("a number") < 60);
    let load = &services["loadtest"]["environment"];
    assert_eq!(value(load, "TARGET"), url(&format!("pgcorral:{}", own_ports().0)));
    assert_eq!(value(load, "OBSERVE"), upstream);
    let asked = words(&services["postgres"]["healthcheck"]["test"]);
    for flag in [format!("--username={user}"), format!("--dbname={database}")] {
        assert!(asked.contains(&flag), "{flag}");
    }
    asks_the_proxy(&words(&services["pgcorral"]["healthcheck"]["test"]));
}

/// A health check's words are a command line of the program that the image has, and it finds the admin address.
#[track_caller]
fn asks_the_proxy(test: &[String]) {
    let ["CMD", program, arguments @ ..] = &test.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        panic!("{test:?}")
    };
    assert_eq!([*program], list(only(&instructions(), "pgcorral", "ENTRYPOINT"))[..]);
    let file = in_repository(OWN_CONFIG);
    // As PGCORRAL_CONFIG says it in the image.
    let command = [&["pgcorral"], arguments, &["--config", file.to_str().expect("UTF-8")]].concat();
    let Ok(Cli { command: Command::Healthcheck(flags), .. }) = Cli::try_parse_from(&command) else {
        panic!("{command:?}")
    };
    assert_eq!(admin_address(&flags, &ProcessEnvironment).map(|admin| admin.port()), Ok(own_ports().1));
}

fn monitoring() {
    let file = compose();
    let services = &file["services"];
    let mounted = |service: &str, to: &str| -> String {
        let volumes = words(&services[service]["volumes"]);
        let find = |volume: &String| volume.strip_suffix(&format!(":{to}:ro")).map(str::to_owned);
        let source =
            volumes.iter().find_map(find).unwrap_or_else(|| panic!("{service} has no {to}: {volumes:?}"));
        in_repository("config").join(source).to_str().expect("UTF-8").to_owned()
    };
    let files = |directory: &str, kind: &str| {
        let files = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{directory}: {error}"));
        files
            .filter(|file| {
                file.as_ref().is_ok_and(|file| file.path().extension().is_some_and(|is| is == kind))
            })
            .count()
    };

    // Where the images look, unless they are told otherwise.
    let prometheus = mounted("prometheus", "/etc/prometheus/prometheus.yml");
    assert!(Path::new(&prometheus).ends_with("prometheus/prometheus.yml"));
    let settings = yaml("config/prometheus/prometheus.yml");
    let job =
        settings["scrape_configs"].as_array().into_iter().flatten().find(|job| job["job_name"] == "pgcorral");
    let targets = words(&job.expect("a job for pgcorral")["static_configs"][0]["targets"]);
    assert_eq!(targets, [format!("127.0.0.1:{}", own_ports().1)]);
    for service in ["prometheus", "grafana"] {
        assert_eq!(
            value(&services[service], "network_mode"),
            "service:pgcorral",
            "its loopback is pgcorral's"
        );
    }
    for pattern in words(&settings["rule_files"]) {
        // Relative to the file.
        let (directory, "*.yml") = pattern.rsplit_once('/').expect("a directory") else {
            panic!("{pattern}")
        };
        assert!(
            files(&mounted("prometheus", &format!("/etc/prometheus/{directory}")), "yml") > 0,
            "{pattern}"
        );
    }

    let provisioning = mounted("grafana", "/etc/grafana/provisioning");
    for directory in ["datasources", "dashboards"] {
        assert!(files(&format!("{provisioning}/{directory}"), "yml") > 0, "{directory}");
    }
    let provider = yaml("config/grafana/provisioning/dashboards/pgcorral.yml");
    let dashboards = mounted("grafana", value(&provider["providers"][0]["options"], "path"));
    assert!(files(&dashboards, "json") > 0, "{dashboards}");
}

fn load_test() {
    let file = compose();
    let command = words(&file["services"]["loadtest"]["command"]);
    assert_eq!(command[0], "run");
    let plan = loadtest::plans::find(&command[1]).unwrap_or_else(|error| panic!("{error}"));
    let instances: u32 = plan.functions.iter().map(|function| function.instances).sum();
    for service in ["pgcorral", "loadtest"] {
        let files = &file["services"][service]["ulimits"]["nofile"];
        for limit in ["soft", "hard"] {
            let limit = files[limit].as_u64().expect("a number");
            assert!(limit > u64::from(instances) + 10_000, "{service}: each connection is an open file");
        }
    }
}

fn copies() {
    let instructions = instructions();
    let (first, rest): (Vec<_>, Vec<_>) = text(".dockerignore")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .partition(|line| line == "*");
    assert_eq!(first.len(), 1, "nothing but what is named");
    let let_in: Vec<&str> =
        rest.iter().map(|line| line.strip_prefix('!').unwrap_or_else(|| panic!("{line}"))).collect();
    let mut copied = Vec::new();
    for copy in instructions.iter().filter(|one| one.name == "COPY") {
        let mut words: Vec<&str> = copy.rest.split(' ').collect();
        words.pop();
        match words[0].strip_prefix("--from=") {
            Some(stage) => assert!(instructions.iter().any(|one| one.stage == stage), "{copy:?}"),
            None => copied.extend(words),
        }
    }
    for source in &copied {
        assert!(in_repository(source).exists(), "there is no {source}");
        assert!(
            let_in.iter().any(|path| Path::new(path).starts_with(source)),
            ".dockerignore keeps {source} out"
        );
    }
    for path in let_in {
        assert!(in_repository(path).exists(), "there is no {path}");
        assert!(copied.iter().any(|source| Path::new(path).starts_with(source)), "nobody copies {path}");
    }
    let rust = only(&instructions, "dependencies", "FROM");
    let version =
        |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().expect("a number")).collect() };
    let tag = rust.split([':', '-']).find(|part| part.starts_with(|first: char| first.is_ascii_digit()));
    assert!(version(tag.expect("a version")) >= version(env!("CARGO_PKG_RUST_VERSION")), "{rust}");
}

fn runs() {
    let instructions = instructions();
    let last = instructions.last().expect("instructions");
    assert_eq!(last.stage, "pgcorral", "what is built unless another stage is asked for");
    let own = |name: &str| only(&instructions, "pgcorral", name);
    let program = list(own("ENTRYPOINT")).concat();
    assert!(
        instructions
            .iter()
            .any(|one| one.stage == "pgcorral" && one.rest.ends_with(&format!("/pgcorral {program}")))
    );
    let (variable, path) = own("ENV").split_once('=').expect("a variable");
    assert_eq!(variable, "PGCORRAL_CONFIG");
    let is_installed =
        |one: &Instruction| one.stage == "build" && one.rest == format!("{OWN_CONFIG} /image{path}");
    assert!(instructions.iter().any(is_installed), "{path}");
    let command = list(own("CMD"));
    let serve: Vec<&str> = ["pgcorral"]
        .into_iter()
        .chain(command.iter().map(String::as_str))
        .chain(["--upstream", "postgres://app:secret@db/app", "--config"])
        .collect();
    configured(&serve);
    let (_, test) = own("HEALTHCHECK").split_once("CMD ").expect("a command");
    asks_the_proxy(&[vec!["CMD".to_owned()], list(test)].concat());
    assert_eq!(own("STOPSIGNAL"), "SIGTERM");
    let (user, group) = own("USER").split_once(':').expect("a user and a group");
    for id in [user, group] {
        assert_ne!(id.parse::<u32>().expect("a number, for Kubernetes looks at nothing else"), 0);
    }
    assert!(own("LABEL").contains(&format!("version=\"{VERSION}\"")));
}
