//! The page as Chromium shows it: pixels of every panel, console, hovering, phone and desk, light and dark.

use super::{page, saved};
use std::path::PathBuf;
use std::process::{Command, Output};

/// A Chromium on this machine, or nothing.
fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    ["chromium", "chromium-browser", "google-chrome", "chrome"]
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

struct Browser {
    program: PathBuf,
    profile: tempfile::TempDir,
}

impl Browser {
    fn run(&self, html: &str, width: u32, height: u32, dark: bool, action: &str) -> Output {
        let path = saved(html);
        self.open(&format!("file://{}", path.display()), width, height, dark, action)
    }

    fn open(&self, address: &str, width: u32, height: u32, dark: bool, action: &str) -> Output {
        let mut command = Command::new(&self.program);
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"])
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .arg(format!("--window-size={width},{height}"));
        if dark {
            command.arg("--blink-settings=preferredColorScheme=0");
        }
        command.args([action, address]).output().expect("the browser runs")
    }

    /// Pixels of the whole page.
    fn picture(&self, html: &str, width: u32, height: u32, dark: bool) -> image::RgbImage {
        let target = self.profile.path().join("shot.png");
        self.run(html, width, height, dark, &format!("--screenshot={}", target.display()));
        image::open(&target).expect("a screenshot").to_rgb8()
    }

    /// What the page says of itself once loaded: its height, its overflow, the boxes of its panels; and the console.
    /// The page lies in a frame, because a browser's window has a least width that is above a phone's.
    fn probe(&self, html: &str, width: u32, dark: bool) -> (serde_json::Value, Vec<String>) {
        const PROBE: &str = "<script>addEventListener('load', function () {
            var boxes = Array.from(document.querySelectorAll('.panel')).map(function (p) {
              var b = p.getBoundingClientRect();
              return [b.left, b.top + scrollY, b.width, b.height].map(Math.round); });
            parent.document.title = JSON.stringify({ boxes: boxes, inner: innerWidth,
              dark: matchMedia('(prefers-color-scheme: dark)').matches,
              cut: Array.from(document.querySelectorAll('.scroll:has(.summary)')).filter(function (s) {
                return s.scrollWidth > s.clientWidth; }).length,
              over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
              high: document.documentElement.scrollHeight });
            }); </script>";
        let inner = html.replacen("</body>", &format!("{PROBE}</body>"), 1);
        let inner = inner.replace('&', "&amp;").replace('"', "&quot;");
        let outer = format!(
            "<!DOCTYPE html><meta name=\"color-scheme\" content=\"light dark\"><title>none</title>\
             <iframe style=\"border:0;width:{width}px;height:900px\" srcdoc=\"{inner}\"></iframe>"
        );
        let told = self.run(&outer, 1400, 1000, dark, "--dump-dom");
        let console = String::from_utf8_lossy(&told.stderr)
            .lines()
            .filter(|l| l.contains("CONSOLE"))
            .map(str::to_owned)
            .collect();
        let dom = String::from_utf8_lossy(&told.stdout).into_owned();
        let title = dom.split("<title>").nth(1).and_then(|t| t.split("</title>").next()).expect("a title");
        (serde_json::from_str(&title.replace("&quot;", "\"")).expect(title), console)
    }
}

/// Panels whose box shows no difference between the two pictures.
fn blank(boxes: &[[u32; 4]], with: &image::RgbImage, without: &image::RgbImage) -> Vec<usize> {
    let differs = |[x, y, w, h]: &[u32; 4]| {
        let right = (x + w).min(with.width());
        let bottom = (y + h).min(with.height());
        (*y..bottom)
            .flat_map(|row| (*x..right).map(move |column| (column, row)))
            .filter(|(column, row)| {
                let (a, b) = (with.get_pixel(*column, *row), without.get_pixel(*column, *row));
                a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > 24)
            })
            .count()
    };
    (0..boxes.len()).filter(|i| differs(&boxes[*i]) < 40).collect()
}

#[test]
fn a_browser_shows_every_panel_without_an_error() {
    let Some(program) = chromium() else {
        println!("skipped: no Chromium on this machine (looked at CHROMIUM and PATH)");
        return;
    };
    let browser = Browser { program, profile: tempfile::tempdir().unwrap() };
    for (name, width, dark) in [
        ("run", 390, true),
        ("run", 1280, false),
        ("real", 390, false),
        ("real", 1280, true),
        ("twelve", 390, false),
        ("twelve", 1280, false),
    ] {
        let html = page(name);
        let (probe, console) = browser.probe(&html, width, dark);
        assert!(console.is_empty(), "{name} {width}: {console:?}");
        assert_eq!(probe["inner"], width, "{name}");
        assert_eq!(probe["dark"], dark, "{name}");
        assert_eq!(probe["over"], 0, "{name} is wider than {width} px");
        // On a phone, tables scroll within their boxes.
        assert!(width < 1280 || probe["cut"] == 0, "{name}: {} tables are cut at {width} px", probe["cut"]);
        let boxes: Vec<[u32; 4]> = serde_json::from_value(probe["boxes"].clone()).unwrap();
        assert!(boxes.len() > 15, "{name}: {} panels", boxes.len());
        let height = u32::try_from(probe["high"].as_u64().unwrap()).unwrap() + 100;
        let with = browser.picture(&html, width, height, dark);
        let hidden = html.replacen("</style>", ".m, .strip image { visibility: hidden; }</style>", 1);
        let without = browser.picture(&hidden, width, height, dark);
        assert_eq!(blank(&boxes, &with, &without), Vec::<usize>::new(), "{name} {width}");
        // Negative control: a page without marks is blank throughout.
        assert_eq!(blank(&boxes, &without, &without).len(), boxes.len());
    }
    // Touching a bar tells its value; picking a size shows its pictures and no others.
    const TOUCH: &str = "<script>addEventListener('load', function () {
        var svg = document.querySelector('#scores-histograms svg.plot');
        var box = svg.querySelectorAll('[data-t]')[2].getBoundingClientRect();
        svg.dispatchEvent(new PointerEvent('pointerdown', { clientX: box.left + 1, clientY: box.top + 1 }));
        var pick = document.querySelector('.pick input');
        pick.checked = true;
        pick.dispatchEvent(new Event('change', { bubbles: true }));
        var rows = Array.from(document.querySelectorAll('[data-e]')).filter(function (r) { return r.offsetHeight; });
        document.title = document.getElementById('tip').innerText + ' / ' +
          rows.map(function (r) { return r.getAttribute('data-e'); }).join('');
        }); </script>";
    let touched = page("run").replacen("</body>", &format!("{TOUCH}</body>"), 1);
    let dom = browser.run(&touched, 1280, 900, false, "--dump-dom").stdout;
    let dom = String::from_utf8_lossy(&dom);
    let title = dom.split("<title>").nth(1).and_then(|t| t.split("</title>").next()).expect("a title");
    assert!(title.contains("plain: ") && title.contains(" %") && title.ends_with("/ 000000000000"), "{title}");
    // One figure alone, to take a picture of.
    let path = saved(&page("real"));
    let alone = browser.open(&format!("file://{}?only#sweep-glance", path.display()), 1280, 900, false, "--dump-dom");
    let dom = String::from_utf8_lossy(&alone.stdout).into_owned();
    assert!(dom.contains("id=\"sweep-glance\"") && dom.matches("<figure").count() == 1 && !dom.contains("<nav"));
    // Negative controls: the console is heard, also where the page's own policy stops a fetch.
    let good = page("bare");
    let loud = good.replacen("</body>", "<script>nothing();</script></body>", 1);
    assert!(!browser.probe(&loud, 390, false).1.is_empty());
    let fetching = good.replacen("<main>", "<main><img alt=\"x\" src=\"https://example.org/x.png\"/>", 1);
    assert!(!browser.probe(&fetching, 390, false).1.is_empty());
}
