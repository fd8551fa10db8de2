"""The pages in a real browser: scripts run, pictures load, the policy lets them and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tools.viewer.conftest import Write
from tests.tools.viewer.test_server import serving

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium"),
]


def browse(address: str, tmp_path: Path, *options: str) -> str:
    """What a headless browser says of a page."""
    assert BROWSER
    words = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run([*words, profile, *options, address], capture_output=True, text=True, timeout=50, check=True)
    return done.stdout


def dom(address: str, tmp_path: Path) -> str:
    """The elements of a page once its scripts have run."""
    return browse(address, tmp_path, "--virtual-time-budget=3000", "--dump-dom")


@pytest.fixture
def file(tmp_path: Path, page: Write) -> str:
    return (tmp_path / "page.html").as_uri()


def test_a_picture_opens_at_full_size_with_number_file_and_class(
    photos: Path, page: Write, file: str, tmp_path: Path
) -> None:
    page(photos)
    closed = dom(file, tmp_path)
    assert re.search(r'<dialog id="viewer"><div class="v-picture"></div>', closed)
    opened = dom(f"{file}#31", tmp_path)
    (viewer,) = re.findall(r'<dialog id="viewer" open="">.*</dialog>', opened, re.DOTALL)
    assert "it's &quot;31&quot;.jpg" in viewer or 'it\'s "31".jpg' in viewer
    assert re.search(r"<b>31</b>.* bee <small> 160 . 120</small>", viewer)  # its size is known once it is loaded


def test_a_picture_without_a_label_opens_too(photos: Path, page: Write, file: str, tmp_path: Path) -> None:
    page(photos, "--fields", "image")
    assert re.search(r'<dialog id="viewer" open="">.*<b>31</b> ?<small> 160 . 120</small>', dom(f"{file}#31", tmp_path))


def test_the_same_is_served(photos: Path, tmp_path: Path) -> None:
    with serving(photos) as (_, port):
        found = dom(f"http://127.0.0.1:{port}/0/?from=60#77", tmp_path)
    assert 'src="http://127.0.0.1' in found
    assert re.search(r"<b>77</b>.* cat <small> 160 . 120</small>", found)


def test_html_in_data_does_not_run(hostile: Path, page: Write, file: str, tmp_path: Path) -> None:
    page(hostile)
    assert "<title>pwned" not in dom(file, tmp_path)
    with serving(hostile) as (_, port):
        assert "<title>pwned" not in dom(f"http://127.0.0.1:{port}/", tmp_path)


@pytest.mark.parametrize("name", ["photos", "digits", "texts", "damaged"])
def test_every_page_is_drawn(name: str, page: Write, file: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    page(request.getfixturevalue(name), code=int(name == "damaged"))
    shot = tmp_path / "shot.png"
    browse(file, tmp_path, f"--screenshot={shot}", "--window-size=1200,1400", "--hide-scrollbars")
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape == (1400, 1200, 3)
    blue = (pixels[..., 2] - pixels[..., 0] > 100).mean()  # bars
    marks = (pixels == (217, 67, 47)).all(-1).sum()  # of damage
    assert blue > 0.001
    assert (marks > 1000) == (name == "damaged")
