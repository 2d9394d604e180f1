"""Notebooks in JupyterLab, in a real browser, with the kernels of a hub and of a user."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
)
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

from tests import slurm
from tests.helpers.accounts import ROOT
from tests.helpers.needed import needs
from tests.helpers.projects import TOP
from tests.helpers.waiting import PATIENCE, wait_until
from tests.slurm import Account, Site
from tests.slurm.site import public_python

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("jupyterlab")]

TEXT = "name: climate\ndependencies: [python, matplotlib, {pip: [ipykernel]}]\n"
PLOT = """\
import sys
print(sys.prefix)
import matplotlib.pyplot as plt
plt.plot([1, 4, 9]);
"""
LONG = "import time; print('begun'); time.sleep(3600)"
ACCEPT = ".jp-Dialog .jp-mod-accept"
# JupyterLab asks whether it may look for news on the network.
SILENT = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
SERVER = """\
exec {lab}/bin/jupyter-lab --no-browser --ip=127.0.0.1 --port=0 \
    --AsyncIOLoopKernelRestarter.time_to_dead=0.5 >server.log 2>&1
"""
DRIVER = "exec chromedriver --port=0 >driver.log 2>&1"
# JupyterLab may draw an element anew, or still have a menu or dialog before it.
NOT_YET = (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
)


@dataclass(frozen=True)
class Desk:
    """JupyterLab of a user, and the browser in which it is."""

    user: Account
    server: subprocess.Popen[str]
    browser: WebDriver

    def log(self) -> str:
        """Return what the server, and kernels that it started, have said."""
        return (self.user.home / "server.log").read_text()

    def find(self, selector: str) -> WebElement:
        """Return an element, when it is to be seen."""
        there = expected_conditions.visibility_of_element_located((By.CSS_SELECTOR, selector))
        return WebDriverWait(self.browser, PATIENCE).until(there)

    def click(self, selector: str, by: str = By.CSS_SELECTOR) -> None:
        """Click on an element, when it is there and nothing in front of it."""

        def clicked(browser: WebDriver) -> bool:
            browser.find_element(by, selector).click()
            return True

        WebDriverWait(self.browser, PATIENCE, ignored_exceptions=NOT_YET).until(clicked)

    def choose(self, menu: str, command: str) -> None:
        """Choose from a menu by the name of the command."""
        self.click(f"//li[contains(@class, 'lm-MenuBar-item')][.='{menu}']", By.XPATH)
        self.click(f'.lm-Menu-item[data-command="{command}"]')

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all such elements."""
        # One call: elements that JupyterLab replaces meanwhile would be stale.
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())"
        found: list[str] = self.browser.execute_script(script, selector)
        return found

    def open(self, kernel: str) -> None:
        """Open a new notebook by what the launcher shows."""
        card = "//div[@data-category='Notebook' and contains(@class, 'jp-LauncherCard')]"
        self.click(f"{card}//p[.='{kernel}']", By.XPATH)

    def run(self, code: str) -> None:
        """Type into the last cell, and run it."""
        assert self.becomes("Idle")
        self.click(".jp-Notebook .jp-Cell.jp-mod-active .cm-content")
        keys = ActionChains(self.browser).send_keys(code)
        keys.key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()

    def becomes(self, status: str) -> bool:
        """Wait until a kernel, as the line at the bottom tells, is in a status."""
        shown = re.compile(rf"^(?!No Kernel).* \| {status}$", re.MULTILINE)
        return wait_until(lambda: shown.search("\n".join(self.texts(".jp-StatusBar-Left"))))

    def said(self, words: str) -> bool:
        """Wait until a cell says something."""
        return wait_until(
            lambda: any(words in text for text in self.texts(".jp-OutputArea-output"))
        )


@pytest.fixture(scope="module")
def hub(channel: Path, package_cache: Path) -> Iterator[Site]:
    """JupyterLab in a virtual environment of its own, and a kernel for all users."""
    tools = ("chromium", "chromedriver", "useradd", "squashfuse_ll")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        needs(", ".join(missing))
    with contextlib.ExitStack() as stack:
        try:
            site = stack.enter_context(slurm.site(channel, TEXT, packages=package_cache))
        except LookupError as error:
            needs(str(error))
        uv, lab = Path(sys.executable).with_name("uv"), site.place / "lab"
        subprocess.run([uv, "venv", "-q", "--python", public_python(), lab], check=True)
        pins = ("--require-hashes", "-r", TOP / "tools/jupyterlab-pins.txt")
        python = ("--python", lab / "bin/python")
        subprocess.run([uv, "pip", "install", "-q", *python, *pins], check=True)
        settings = lab / "etc/jupyter/labconfig/page_config.json"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(SILENT))
        install = ("kernel", "install", "--prefix", str(site.place / "hub"))
        named = ("--env", "climate/2026.1", "--display-name", "Climate")
        for words in (("tag", "climate/2026.1"), (*install, *named)):
            ROOT.run(site.cnd, *words, environment=site.environment)
        yield site


@pytest.fixture
def desk(hub: Site, tmp_path: Path) -> Iterator[Desk]:
    """JupyterLab in the browser of an ordinary user, who has a kernel of the project as well."""
    variables = {**hub.environment, "JUPYTER_PATH": str(hub.place / "hub/share/jupyter")}
    with contextlib.ExitStack() as stack:
        (user,) = stack.enter_context(slurm.accounts(hub.place, 1))
        stack.callback(hub.tidy, points=True)
        install = ("kernel", "install", "--user", "--name", "mine", "--display-name", "Mine")
        user.run(hub.cnd, *install, environment=variables)
        lab = SERVER.format(lab=hub.place / "lab")
        server = stack.enter_context(user.start("sh", "-c", lab, environment=variables))
        stack.callback(server.terminate)
        own = {"TMPDIR": str(user.home)}
        driver = stack.enter_context(user.start("sh", "-c", DRIVER, environment=own))
        stack.callback(driver.terminate)
        (port,) = _found(r"started successfully on port (\d+)", user.home / "driver.log")
        options = webdriver.ChromeOptions()
        # The /dev/shm of a container is too small for it.
        for option in ("headless=new", "window-size=1400,1000", "disable-dev-shm-usage"):
            options.add_argument(f"--{option}")
        browser = stack.enter_context(webdriver.Remote(f"http://127.0.0.1:{port}", options=options))
        # For whoever wants to know what it looked like.
        stack.callback(browser.save_screenshot, str(tmp_path / "last.png"))
        (url,) = _found(r"(http://127\.0\.0\.1:\d+/lab\?token=\w+)", user.home / "server.log")
        browser.get(url)
        yield Desk(user, server, browser)


def _found(pattern: str, log: Path) -> tuple[str, ...]:
    """Wait until a log has something, and return its groups."""
    found: list[re.Match[str]] = []

    def look() -> bool:
        found.extend(re.finditer(pattern, log.read_text() if log.exists() else ""))
        return bool(found)

    assert wait_until(look), log.read_text()
    return found[0].groups()


def kernels(hub: Site) -> list[str]:
    """Return the processes of kernels and mounts."""
    lines = hub.processes().values()
    return [line for line in lines if "ipykernel" in line or "squashfuse" in line]


def test_a_notebook_runs_in_the_image(hub: Site, desk: Desk, tmp_path: Path) -> None:
    desk.open("Climate")
    desk.run(PLOT)
    assert desk.said(str(hub.prefix))
    plot = desk.find(".jp-OutputArea-output img")
    kind, _, content = str(plot.get_attribute("src")).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content).startswith(b"\x89PNG")
    width, height = desk.browser.execute_script(
        "return [arguments[0].naturalWidth, arguments[0].naturalHeight]", plot
    )
    assert min(width, height) > 100
    desk.browser.save_screenshot(str(tmp_path / "plot.png"))

    desk.run(LONG)
    assert desk.said("begun")
    desk.choose("Kernel", "kernelmenu:interrupt")
    assert desk.said("KeyboardInterrupt")
    desk.run("print('plot is still', 'plt' in dir())")
    assert desk.said("plot is still True")

    desk.choose("Kernel", "kernelmenu:restart")
    desk.click(ACCEPT)
    assert wait_until(lambda: "Kernel restarted" in desk.log())
    desk.run("print('after it', 'plt' in dir(), __import__('sys').prefix)")
    assert desk.said(f"after it False {hub.prefix}")
    assert "[1]:" in desk.texts(".jp-InputPrompt")[-2:]

    assert hub.mounts() == [str(hub.prefix)]
    assert kernels(hub)
    desk.choose("Kernel", "kernelmenu:shutdown")
    assert wait_until(lambda: not hub.mounts() and not kernels(hub))


def test_what_a_user_finds_of_a_kernel_without_its_image(hub: Site, desk: Desk) -> None:
    project, cache = hub.place / "project", Path(hub.environment["CONDAINER_CACHE"])
    image = cache / "images" / hub.address[:2] / hub.address
    away = image.rename(cache / "away")
    desk.open("Mine")
    assert wait_until(lambda: "restart failed" in desk.log())
    told = f"cnd: The image {hub.address} of {project} is not in {cache}\n"
    assert f"{told}     Run `cnd build` first.\n" in desk.log()
    assert desk.becomes("Disconnected")
    assert not desk.texts(".jp-Dialog")
    # As soon as it is there again, the same notebook goes on.
    away.rename(image)
    desk.choose("Kernel", "kernelmenu:restart")
    desk.run("print(__import__('sys').prefix)")
    assert desk.said(str(hub.prefix))

    # With the kernel in use.
    desk.choose("File", "filemenu:shutdown")
    desk.click(ACCEPT)
    assert desk.server.wait() == 0
    assert wait_until(lambda: not hub.mounts() and not kernels(hub))
