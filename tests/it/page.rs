//! The live page in a real browser, in front of a real storm.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::join_all;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio_postgres::NoTls;

use crate::Test;
use crate::support::browser::{Browser, ENTER, LEFT, TAB};
use crate::support::ground::{Ground, Tenant, block_on, eventually};
use crate::support::proxy::{Proxy, ProxyOptions};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("page", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("shows_a_storm", storm),
    ("can_be_read_by_everybody", legible),
    ("asks_for_the_token", token),
    ("comes_back_after_a_restart", restart),
];

/// What a client may call itself.
const HOSTILE: &str = "<img src=x onerror=alert(1)>";

const TOKEN: &str = "s3same/open+";

/// Clients that want more than a pool of two can do: each comes back at once, and 50 ms after it was refused.
struct Storm {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Storm {
    fn start(url: &str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (url, until) = (url.to_owned(), Arc::clone(&is_over));
        let clients = move || block_on(join_all((0..40).map(|_| client(&url, &until))));
        Self { is_over, thread: Some(std::thread::spawn(move || drop(clients()))) }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn client(url: &str, is_over: &AtomicBool) {
    let mut config: tokio_postgres::Config = url.parse().expect("a URL");
    let (client, connection) = config.application_name(HOSTILE).connect(NoTls).await.expect("log in");
    let connection = tokio::spawn(connection);
    while !is_over.load(Ordering::Relaxed) {
        if client.simple_query("select pg_sleep(0.05)").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    drop(client);
    let _ = connection.await;
}

/// A pool of two that refuses after 200 ms.
fn options(ground: &Ground, tenant: &Tenant) -> ProxyOptions {
    ProxyOptions {
        max_wait: Some("200ms".to_owned()),
        timeouts_extra: vec!["burst_wait_timeout = \"200ms\"".to_owned()],
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 2)])
    }
}

fn open(browser: &Browser, admin: SocketAddr) {
    browser.open(&format!("http://{admin}/"));
}

fn link(browser: &Browser) -> Value {
    browser.run("return document.body.dataset.link", json!([]))
}

/// A value in the caption of a plot, as it is shown: the `n`th of its lines.
fn caption(browser: &Browser, plot: &str, n: usize) -> String {
    let found = browser.run(
        "const of = (figure) => figure.querySelector('h3').textContent === arguments[0];
         return [...document.querySelectorAll('figure')].find(of).querySelectorAll('b')[arguments[1]].textContent",
        json!([plot, n]),
    );
    found.as_str().expect("a text").to_owned()
}

/// How many points the lines of the plots have, all together.
fn points(browser: &Browser) -> u64 {
    let lines = "return [...document.querySelectorAll('path.line')]
         .reduce((all, line) => all + line.getAttribute('d').split('L').length, 0)";
    browser.run(lines, json!([])).as_u64().expect("a number")
}

fn texts(browser: &Browser, selector: &str) -> Vec<String> {
    let all = "return [...document.querySelectorAll(arguments[0])].map((element) => element.textContent)";
    let texts = browser.run(all, json!([selector]));
    serde_json::from_value(texts).expect("texts")
}

fn storm(ground: &Ground) {
    let tenant = ground.tenant("page_storm");
    let proxy = Proxy::start(&options(ground, &tenant));
    let browser = Browser::start();
    open(&browser, proxy.admin);
    eventually("the page is live", || link(&browser) == "live");
    assert_eq!(texts(&browser, "#state-word"), ["Idle: "]);
    assert_eq!(caption(&browser, "Waiting", 0), "0");

    let _storm = Storm::start(&tenant.url(proxy.address));
    eventually("somebody waits", || caption(&browser, "Waiting", 0).parse().is_ok_and(|n: u32| n > 3));
    eventually("refusals by reason", || {
        let rows = texts(&browser, "#sheds tbody tr");
        rows.iter().any(|row| row.starts_with("estimate") || row.starts_with("queue_timeout"))
    });
    eventually("the sentence says it", || texts(&browser, "#state-word") == ["Saturated: "]);
    let sentence = texts(&browser, "#state-text").concat();
    assert!(sentence.contains("page_storm/page_storm has 2 of 2 server connections in use"), "{sentence}");
    let before = points(&browser);
    eventually("the plots get points", || points(&browser) > before + 7);
    eventually("percentiles", || caption(&browser, "Exec", 0).ends_with("ms"));

    assert!(
        texts(&browser, "#functions tbody th").iter().any(|name| name == HOSTILE),
        "a name is shown as it is"
    );
    assert_eq!(browser.run("return document.images.length", json!([])), 0);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    refuses_foreign_scripts(&browser);
}

/// If a name did become HTML, the policy would still keep it from running.
fn refuses_foreign_scripts(browser: &Browser) {
    let inject = "const script = document.createElement('script');
        script.textContent = 'window.injected = true';
        document.body.append(script);
        return window.injected === undefined";
    assert_eq!(browser.run(inject, json!([])), true);
    let complaints = browser.complaints().concat();
    assert!(complaints.contains("Content Security Policy"), "{complaints}");
}

fn legible(ground: &Ground) {
    let tenant = ground.tenant("page_legible");
    let proxy = Proxy::start(&options(ground, &tenant));
    let _storm = Storm::start(&tenant.url(proxy.address));
    let browser = Browser::start();
    open(&browser, proxy.admin);
    eventually("a row of functions", || !texts(&browser, "#functions tbody th").is_empty());
    browser.look(1440, 900, "light");
    reachable_by_keyboard(&browser);
    let paper = "return getComputedStyle(document.body).backgroundColor";
    let mut papers = Vec::new();
    for (width, scheme) in [(1440, "light"), (1440, "dark"), (360, "light"), (360, "dark")] {
        browser.look(width, 800, scheme);
        papers.push(browser.run(paper, json!([])));
        let (faint, outside) = (faint_texts(&browser), outside_of(&browser));
        assert_eq!(faint, json!([]), "{width} px, {scheme}: contrast below 4.5");
        assert_eq!(outside, json!([]), "{width} px, {scheme}: beyond the screen");
    }
    spoil(&browser);
    assert_ne!(faint_texts(&browser), json!([]), "grey on grey is seen");
    assert_ne!(outside_of(&browser), json!([]), "what is too wide is seen");
    assert_ne!(papers[0], papers[1], "light and dark differ");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// So that it is known that the checks would find something.
fn spoil(browser: &Browser) {
    let spoil = "document.documentElement.style.setProperty('--soft', '#777');
        document.getElementById('state').style.width = '400px'";
    browser.run(spoil, json!([]));
}

/// Tab reaches everything that can be used, and shows where it is; the plots can be looked back at.
fn reachable_by_keyboard(browser: &Browser) {
    let focused = "const at = document.activeElement;
        if (at === document.body || at.dataset.reached) return null;
        at.dataset.reached = 'yes';
        return [at.id || at.textContent, getComputedStyle(at).outlineStyle, at.matches('#ago')]";
    for _ in 0..60 {
        browser.press(TAB);
        let at = browser.run(focused, json!([]));
        if at.is_null() {
            break;
        }
        assert_ne!(at[1], "none", "the focus can be seen: {at}");
        if at[2] == true {
            browser.press(LEFT);
            assert_ne!(texts(browser, "#moment"), ["now"]);
            assert_eq!(browser.run("return document.querySelectorAll('path.cursor').length", json!([])), 7);
        }
        if at[0] == "pause" {
            browser.press(ENTER);
            assert!(texts(browser, "#link").concat().starts_with("paused"));
            browser.press(ENTER);
        }
    }
    let missed = "const all = document.querySelectorAll('button, input, summary, a[href], [tabindex=\"0\"]');
        const missed = [...all].filter((one) => one.checkVisibility() && !one.dataset.reached);
        return missed.map((one) => one.id || one.textContent)";
    assert_eq!(browser.run(missed, json!([])), json!([]));
}

/// Texts whose colour is too near to what is behind them (WCAG 2.2, 1.4.3).
fn faint_texts(browser: &Browser) -> Value {
    let faint = "
        const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const linear = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
        const behind = (element) => {
          for (let at = element; at; at = at.parentElement) {
            const colour = channels(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
          }
          return [255, 255, 255];
        };
        const contrast = (element) => {
          const style = getComputedStyle(element);
          const colour = element.closest('svg') ? style.fill : style.color;
          const [a, b] = [light(channels(colour)), light(behind(element))].sort((a, b) => b - a);
          return (a + 0.05) / (b + 0.05);
        };
        const faint = [];
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) {
          const element = texts.currentNode.parentElement;
          if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest('script')) continue;
          if (contrast(element) < 4.5) faint.push([texts.currentNode.data, contrast(element)]);
        }
        return faint";
    browser.run(faint, json!([]))
}

/// What is wider than the window.
fn outside_of(browser: &Browser) -> Value {
    let outside = "
        const width = document.documentElement.clientWidth;
        const wide = document.documentElement.scrollWidth > width ? ['the page scrolls'] : [];
        const shown = [...document.querySelectorAll('main *')].filter((one) => one.checkVisibility() && !one.closest('.hidden'));
        const beyond = shown.filter((one) => one.getBoundingClientRect().right > width + 1 && !one.closest('thead'));
        return [...wide, ...beyond.map((one) => `${one.tagName} ${one.textContent}`)]";
    browser.run(outside, json!([]))
}

fn token(ground: &Ground) {
    let tenant = ground.tenant("page_token");
    let options = ProxyOptions { admin_token: Some(TOKEN.to_owned()), ..options(ground, &tenant) };
    let proxy = Proxy::start(&options);
    let browser = Browser::start();
    open(&browser, proxy.admin);
    eventually("it asks", || link(&browser) == "locked");
    let focus = "return document.activeElement.id";
    assert_eq!(browser.run(focus, json!([])), "token");
    browser.type_text("wrong");
    browser.press(ENTER);
    eventually("it says that it is wrong", || texts(&browser, "#unlock-error") == ["This is not the token."]);
    browser.type_text(TOKEN);
    browser.press(ENTER);
    eventually("it is live", || link(&browser) == "live");
    eventually("it has figures", || texts(&browser, "#state-word") == ["Idle: "]);
    browser.open(&format!("http://{}/", proxy.admin));
    eventually("it still knows the token", || link(&browser) == "live");
    let refused = |line: &String| line.contains("401");
    assert!(browser.complaints().iter().all(refused), "nothing but that it was refused");
}

fn restart(ground: &Ground) {
    let tenant = ground.tenant("page_restart");
    let mut options = options(ground, &tenant);
    let proxy = Proxy::start(&options);
    options.admin = Some(proxy.admin);
    let browser = Browser::start();
    open(&browser, proxy.admin);
    eventually("the page is live", || link(&browser) == "live");
    drop(proxy);
    eventually("it says that it is alone", || link(&browser) == "lost");
    let said = || texts(&browser, "#lost-text").concat();
    assert!(said().starts_with("Connection lost. The figures are those of "), "{}", said());
    let _proxy = Proxy::start(&options);
    eventually("it has come back by itself", || link(&browser) == "live");
    assert_eq!(texts(&browser, "#lost:not([hidden])"), Vec::<String>::new());
    let expected = |line: &String| line.contains("Failed to load resource") || line.contains("net::ERR");
    let complaints = browser.complaints();
    assert!(complaints.iter().all(expected), "{complaints:?}");
}
