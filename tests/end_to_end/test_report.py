"""`cnd list --html`: the report on a cache, in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from condainer.cache import entries
from condainer.settings.config import Settings
from condainer.settings.load import load_settings
from condainer.upkeep import report
from tests.helpers.entries import digest, make_entry
from tests.helpers.needed import needs
from tests.helpers.projects import Project

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("report")]

Load = Callable[..., Settings]
MANY = 10_000
# What the page may take to be there, in seconds of the browser's processor.
OPENING = 2.0
HOSTILE = (
    "</script><script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title = 'owned'\">",
    "<!--<script>",
    "@data@ @script-hash@",
    "\u2028'\"`${document.title = 'owned'}",
)


@contextmanager
def browser(width: int, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """A browser of a width, in pixels; a narrow one is a phone."""
    if missing := [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]:
        needs(", ".join(missing))
    options = webdriver.ChromeOptions()
    # Chromium has no sandbox for root, and the /dev/shm of a container is too small for it.
    for option in ("headless=new", "disable-dev-shm-usage", f"window-size={width},1200"):
        options.add_argument(f"--{option}")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    if width < 500:
        metrics = {"width": width, "height": 1200, "pixelRatio": 1}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options, service) as driver:
        wish = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [wish]})
        # A page that has to ask anybody has no answer.
        driver.execute_cdp_cmd("Network.enable", {})
        conditions = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)
        yield driver


def opened(driver: webdriver.Chrome, path: Path) -> None:
    """Open a report, in which nothing may go wrong."""
    driver.get(path.as_uri())
    assert driver.execute_script("return document.documentElement.dataset.ready") == "yes"
    assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]
    assert driver.title == "Condainer: report on a cache"
    # Nothing has to be moved sideways.
    wide = "return document.documentElement.scrollWidth <= window.innerWidth"
    assert driver.execute_script(wide)


def column(driver: webdriver.Chrome, number: int, table: str = "images") -> list[str]:
    """Return what stands in a column, below each other."""
    script = (
        "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.split('\\n')[0])"
    )
    cells: list[str] = driver.execute_script(script, f"#{table} tbody td:nth-child({number})")
    return cells


def data(path: Path) -> Any:
    """Return what a page holds."""
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())
    assert match is not None
    return json.loads(match[1])


def test_a_report_says_what_the_commands_say(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    one = make_project()
    other = make_project("other", "name: other\ndependencies: [probe-files]\n")
    address = one.json("build")["address"]
    other.json("build")
    one.cnd("tag", "stable/1")
    one.cnd("exec", "true")
    assert one.cnd("list", "--html", "out/report.html", status=12).stderr
    path = one.path / "report.html"
    told = one.cnd("list", "--html", "report.html")
    assert (told.stdout, told.stderr) == ("", "Wrote report.html: 2 images\n")
    shown = data(path)
    listed = {item["address"]: item for item in one.json("list")}
    assert [image["address"] for image in shown["images"]] == list(listed)
    image = next(image for image in shown["images"] if image["address"] == address)
    assert image["size"] == listed[address]["size"]
    assert image["tags"] == ["stable/1"]
    assert [project["path"] for project in image["projects"]] == [str(one.path)]
    assert image["packages"] == 3
    assert image["own"] == 2
    # Without a limit, a collection looks no further.
    assert image["fate"] == [False, "limits", ""]
    assert [row[1] for row in shown["packages"]] == ["probe-files"]
    assert one.cnd("list", "--html", "report.html", "--json", status=2)

    with browser(1300) as driver:
        opened(driver, path)
        assert sorted(column(driver, 1)) == ["other", "project stable/1"]
        (row,) = driver.find_elements(By.CSS_SELECTOR, "#packages tbody tr")
        assert row.text.startswith("probe-files")


def test_what_a_collection_would_take(root: Path, load: Load) -> None:
    for number in range(3):
        image = make_entry(root, digest(number), name=f"demo{number}") / entries.IMAGE
        os.utime(image, (time.time() - number * 40 * 86400,) * 2)
        os.utime(image.parent, (time.time() - 40 * 86400,) * 2)
    (root / "policy.yml").write_text("older_than: 30d\n")
    settings = load(f"cache_directory={root}")
    path = root / "report.html"
    report.write(path, settings)
    with browser(1300) as driver:
        opened(driver, path)
        states = dict(zip(column(driver, 1), column(driver, 8), strict=True))
        assert states == {
            "demo0": "stays: within the limits",
            "demo1": "goes: not used for long",
            "demo2": "goes: not used for long",
        }
        assert "older_than: 30d" in driver.find_element(By.ID, "figures").text
        choice = driver.find_element(By.CSS_SELECTOR, "#images select")
        choice.find_element(By.XPATH, "option[.='that cnd gc would take']").click()
        assert sorted(column(driver, 1)) == ["demo1", "demo2"]
    # Where a cache is only read, there is no collection.
    assert not report.content(load(f"cache_directory={root}", f"readonly_caches={root}"))[
        "collected"
    ]


def test_what_others_wrote_is_text(root: Path, load: Load) -> None:
    for number, text in enumerate(HOSTILE):
        directory = make_entry(root, digest(number), name=text, builder=text)
        lock = f"@EXPLICIT\nhttps://c/noarch/{text}-1-0.conda#sha256:{number}\n"
        (directory / entries.LOCK).write_text(lock * 2)
        again = make_entry(root, digest(-1 - number), name="again", builder="me")
        (again / entries.LOCK).write_text(lock)
        project = root.parent / "projects" / text.replace("/", "∕")
        project.mkdir(parents=True)
        (project / "environment.yml").touch()
        (root / "projects").mkdir(exist_ok=True)
        noted: dict[str, object] = {
            "address": digest(number),
            "project": str(project),
            "platform": "linux-64",
        }
        noted |= {"host": "n", "inode": 1, "parent": 1}
        (root / "projects" / f"{digest(number)}.0").write_text(json.dumps(noted))
    path = root / "report.html"
    report.write(path, load(f"cache_directory={root}"))
    with browser(1300) as driver:
        opened(driver, path)
        shown = {"again", *HOSTILE}
        assert {*column(driver, 1)} == shown
        assert driver.find_elements(By.CSS_SELECTOR, "img") == []
        assert len(driver.find_elements(By.CSS_SELECTOR, "script")) == 2
        text = driver.find_element(By.TAG_NAME, "body").text
        for part in ("<img src=x onerror", "<!--<script>", "@data@ @script-hash@"):
            assert part in driver.find_element(By.ID, "users").text
            assert part in text
        # And no script from elsewhere, however it got there.
        inject = """
            const script = document.createElement("script");
            script.textContent = "document.title = 'owned'";
            document.body.append(script);
            const image = "<img src=x onerror='document.title = 1'>";
            document.body.insertAdjacentHTML("beforeend", image);
            return document.title
        """
        assert driver.execute_script(inject) == "Condainer: report on a cache"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load settings of no project, given `key=value` texts of the command line."""
    return lambda *overrides: load_settings(tmp_path, overrides)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of a cache."""
    directory = tmp_path / "cache"
    (directory / "images").mkdir(parents=True)
    return directory


@pytest.fixture
def many(root: Path, load: Load) -> Path:
    """A report on very many images, each with packages of which some others have, too."""
    for name in (entries.IMAGE, entries.LOCK):
        (root / name).write_bytes(b"hsqs")
    for number in range(MANY):
        make_entry(root, digest(number), name=f"demo{number % 7}", builder=f"user{number % 31}")
    shown = report.content(load(f"cache_directory={root}"))
    # A file system of a test has no room for images of such sizes.
    for number, image in enumerate(shown["images"]):
        image["size"] = number * 1_000_000
        image["used"] = shown["now"] - number % 500 * 86400
    path = root / "report.html"
    path.write_text(report.render(shown))
    return path


@pytest.mark.parametrize("width", [390, 1300])
@pytest.mark.parametrize("dark", [False, True])
def test_many_images(many: Path, width: int, dark: bool, tmp_path: Path) -> None:
    with browser(width, dark) as driver:
        driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        opened(driver, many)
        metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        used = {metric["name"]: metric["value"] for metric in metrics}
        assert 0 < used["TaskDuration"] < OPENING
        # For a look at it.
        driver.save_screenshot(str(tmp_path / f"report-{width}-{dark}.png"))
        light = driver.execute_script(
            "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
        )
        assert (light < 100) is dark
        cell = driver.find_element(By.CSS_SELECTOR, "#images tbody td")
        assert cell.value_of_css_property("display") == ("grid" if width < 500 else "table-cell")
        assert len(column(driver, 1)) == 100
        assert column(driver, 2)[0] == "10 GB"

        search = driver.find_element(By.CSS_SELECTOR, "#images input")
        search.send_keys("demo3 user5")
        assert {*column(driver, 1)} == {"demo3"}
        assert {*column(driver, 5)} == {"user5"}
        search.send_keys(" no such image")
        assert column(driver, 1) == []
        search.clear()
        search.send_keys(digest(17)[:12])
        assert len(column(driver, 1)) == 1
        search.clear()
        search.send_keys("demo")

        if width < 500:
            order = driver.find_element(By.CSS_SELECTOR, "#images .order")
            order.find_element(By.XPATH, "option[.='Size ▲']").click()
        else:
            driver.find_element(By.XPATH, "//div[@id='images']//th/button[.='Size']").click()
        assert column(driver, 2)[:2] == ["0 B", "1.0 MB"]
        more = driver.find_element(By.CSS_SELECTOR, "#images .more")
        driver.execute_script("arguments[0].click()", more)
        assert len(column(driver, 1)) == 1100
