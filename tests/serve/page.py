"""What a person sees of `lseg-fast serve`, in Chromium, held against the masks of `lseg-fast run`: tests/serve/run.sh."""

import contextlib
import fcntl
import http.client
import http.server
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = [ROOT / "weights/demo/park.png", ROOT / "weights/photos/cat.jpg"]
WORDS = ["dog", "house", "car", "tree", "grass", "sky", "person", "cat", "sand", "snow", "other"]
FLAGS = [
    "--no-sandbox",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    # A name that somebody points at this machine.
    "--host-resolver-rules=MAP rebound.test 127.0.0.1",
]
HEAD = struct.Struct("<BBxxIII")
BINARY = sys.argv[1]
FOLDER = Path(tempfile.mkdtemp(prefix="lseg-serve-"))
CHECKS = []


def check(name):
    """A test: run in the order of this file."""
    return lambda function: CHECKS.append((name, function))


def until(happens, what, seconds=30):
    end = time.monotonic() + seconds
    while not (found := happens()):
        assert time.monotonic() < end, f"never: {what() if callable(what) else what}"
        time.sleep(0.02)
    return found


# ---- the program


class Server:
    def __init__(self, *arguments):
        command = [BINARY, "serve", "--port", "0", "--device", "cpu", "-q", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), self.url
        self.port = int(re.search(r":(\d+)/", self.url)[1])
        self.page = f"http://localhost:{self.port}/"

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host="Host" in headers)
        if body is not None:
            headers["Content-Length"] = str(len(body))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def masks_of_cli(pictures, words):
    """{name: array} as `lseg-fast run` has them, of {name: array or file}."""
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    for name, picture in pictures.items():
        if isinstance(picture, Path):
            shutil.copy(picture, folder / f"{name}{picture.suffix}")
        else:
            Image.fromarray(picture).save(folder / f"{name}.png", compress_level=1)
    labels = folder / "labels.txt"
    labels.write_text("\n".join(words))
    command = [BINARY, "run", *map(str, sorted(folder.glob("*.*g"))), "--labels", f"@{labels}", "--save", "mask", "--out", folder / "out"]
    subprocess.run([*command, "--device", "cpu", "-q"], check=True, stdout=subprocess.DEVNULL)
    return {name: np.array(Image.open(folder / f"out/{name}.mask.png")) for name in pictures}


# ---- the page


class Page:
    """A page with what went over its socket."""

    def __init__(self, context, url):
        self.sent, self.answers, self.lists, self.errors, self.requests = {}, {}, {}, [], []
        self.page = context.new_page()
        self.page.on("websocket", self.listen)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)

    def listen(self, web_socket):
        web_socket.on("framesent", self.heard_sent)
        web_socket.on("framereceived", self.heard_received)

    def heard_sent(self, payload):
        if isinstance(payload, bytes):
            kind, _, frame, width, height = HEAD.unpack_from(payload)
            self.sent[frame] = (kind, width, height, payload[HEAD.size :])

    def heard_received(self, payload):
        if isinstance(payload, bytes):
            (length,) = struct.unpack_from("<I", payload)
            head = json.loads(payload[4 : 4 + length])
            self.answers[head["frame"]] = head
        else:
            said = json.loads(payload)
            if said["type"] == "labels":
                self.lists[said["epoch"]] = said["labels"]

    def picture(self, frame):
        """What was sent, as RGB."""
        kind, width, height, body = self.sent[frame]
        if kind == 1:
            return np.array(Image.open(io.BytesIO(body)).convert("RGB"))
        return np.frombuffer(body, np.uint8).reshape(height, width, 4)[..., :3].copy()

    def ready(self):
        until(lambda: "demo model" in self.text("#about"), lambda: self.text("#about") + self.text("#message"))
        return self

    def text(self, selector):
        # Waiting like this lets the page's events come in.
        self.page.wait_for_timeout(1)
        return self.page.locator(selector).inner_text()

    def data(self, name):
        self.page.wait_for_timeout(1)
        return self.page.locator("#view").get_attribute(f"data-{name}") or ""

    def legend(self):
        return self.page.evaluate("[...document.querySelectorAll('#legend li')].map(row => row.dataset.name)")

    def chips(self):
        return self.page.evaluate("[...document.querySelectorAll('.chip')].map(chip => chip.firstChild.data)")

    def shown(self, words):
        """Until the newest words colour the picture; the frame's number."""
        until(lambda: self.data("layer") == "labels" and self.legend() == words, lambda: (self.legend(), self.text("#message")))
        return int(self.data("frame"))

    def type(self, word, key="Enter"):
        self.page.fill("#word", word)
        self.page.focus("#word")
        self.page.keyboard.press(key)

    def opaque(self):
        self.page.evaluate("opacity.value = 100, opacity.oninput()")
        self.page.wait_for_timeout(60)

    def drop(self, photo):
        self.page.set_input_files("#file", photo)

    def canvas(self):
        """The picture as it is shown, RGB."""
        values = self.page.evaluate("(() => { const d = view.getContext('2d').getImageData(0, 0, view.width, view.height); let s = ''; for (let i = 0; i < d.data.length; i += 8192) s += String.fromCharCode(...d.data.subarray(i, i + 8192)); return [d.width, d.height, btoa(s)] })()")
        import base64

        return np.frombuffer(base64.b64decode(values[2]), np.uint8).reshape(values[1], values[0], 4)[..., :3]

    def colours(self, frame):
        return np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in self.answers[frame]["colours"]], np.uint8)

    def hover(self, x, y):
        """The pointer over a pixel of the picture."""
        place = self.page.evaluate("([x, y]) => { const b = frame(), s = stage.getBoundingClientRect(); return [s.left + b.left + (x + .5) * b.scale, s.top + b.top + (y + .5) * b.scale] }", [x, y])
        self.page.mouse.move(*place)
        self.page.wait_for_timeout(50)

    def close(self):
        assert not self.errors, self.errors
        foreign = [url for url in self.requests if not re.match(r"(http|ws)://localhost:\d+/|blob:http://localhost:|data:", url)]
        assert not foreign, foreign
        self.page.close()


@check("words typed: legend, mask under the cursor and all colours are those of `run`")
def words_typed(server, browser):
    page = Page(context := browser.new_context(viewport={"width": 1280, "height": 900}), server.page).ready()
    page.page.click("#demo")
    words = page.chips()
    page.shown(words)
    for word in ["flower", "a, b"]:
        page.type(word)
    words += ["flower", "a", "b"]
    page.page.keyboard.press("Backspace")
    words.pop()
    page.page.click("[aria-label='Remove a']")
    words.remove("a")
    assert page.chips() == words
    for photo in PHOTOS:
        page.drop(photo)
        page.shown(words)
        until(lambda: page.picture(int(page.data("frame"))).shape == np.array(Image.open(photo).convert("RGB")).shape, "the photo")
        number = int(page.data("frame"))
        truth = masks_of_cli({"it": photo}, words)["it"]
        page.opaque()
        assert (page.canvas() == page.colours(number)[truth]).all(), "colours of the canvas"
        shares = [row.split("\n")[-1] for row in page.page.locator("#legend li").all_inner_texts()]
        expected = [(truth == i).mean() for i in range(len(words))]
        assert shares == ["<0.1 %" if 0 < s < 0.0005 else f"{100 * s:.1f} %" for s in expected], shares
        height, width = truth.shape
        for x, y in np.random.default_rng(1).integers(0, (width, height), (40, 2)):
            page.hover(int(x), int(y))
            label, where = page.text("#under").split(" · ")
            px, py = map(int, re.match(r"x (\d+), y (\d+)", where).groups())
            assert abs(px - x) <= 1 and abs(py - y) <= 1
            assert label.rsplit(" ", 1)[0] == words[truth[py, px]], (label, px, py)
    page.close()
    context.close()


@check("heat of a word, likeness of a pixel, without a request for heat")
def heat_and_likeness(server, browser):
    page = Page(context := browser.new_context(viewport={"width": 1280, "height": 900}), server.page).ready()
    page.page.click("#demo")
    words = page.chips()
    page.shown(words)
    before = len(page.requests), len(page.sent)
    page.page.hover("#legend li:nth-child(4) button")
    until(lambda: page.data("layer") == f"heat {words[3]}", "heat")
    page.page.click("[data-mode=heat]")
    page.hover(240, 20)
    until(lambda: page.data("layer") == "heat sky", lambda: page.data("layer"))
    assert before == (len(page.requests), len(page.sent))
    page.page.click("[data-mode=like]")
    page.hover(30, 300)
    page.page.mouse.down()
    page.page.mouse.up()
    until(lambda: page.data("layer") == "like", lambda: page.text("#message"))
    near = float(re.match(r"like 30, 300: (-?[\d.]+)", page.text("#under"))[1])
    page.hover(30, 20)
    far = float(re.match(r"like 30, 300: (-?[\d.]+)", page.text("#under"))[1])
    assert near > 0.99 and far < near, (near, far)
    page.close()
    context.close()


GIVEN = """async kind => {
  const blob = await (await fetch('/demo.png')).blob(), data = new DataTransfer();
  data.items.add(new File([blob], 'park.png', {type: 'image/png'}));
  const how = {bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data};
  document.body.dispatchEvent(kind == 'drop' ? new DragEvent('drop', how) : new ClipboardEvent('paste', how));
}"""


@check("a photo by drop and by paste; the mask as a file is that of `run`")
def drop_and_paste(server, browser):
    page = Page(context := browser.new_context(), server.page).ready()
    words = page.chips()
    for kind in ["drop", "paste"]:
        before = page.data("frame")
        page.page.evaluate(GIVEN, kind)
        until(lambda: page.data("layer") == "labels" and page.data("frame") != before, lambda: page.text("#message"))
    with page.page.expect_download() as download:
        page.page.click("#save")
    assert download.value.suggested_filename == "park.mask.png"
    saved = np.array(Image.open(download.value.path()))
    assert (saved == masks_of_cli({"it": PHOTOS[0]}, words)["it"]).all()
    page.page.evaluate("document.body.dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: new DataTransfer()}))")
    until(lambda: "Drop a picture's file" in page.text("#message"), lambda: page.text("#message"))
    page.close()
    context.close()


SAMPLER = """() => {
  window.samples = []; window.longest = 0;
  let last = '', since = performance.now();
  const probes = %s;
  const look = now => {
    const key = view.dataset.frame + '/' + view.dataset.epoch;
    if (key != last && view.dataset.epoch) {
      window.longest = Math.max(window.longest, now - since);
      [last, since] = [key, now];
      const at = ([x, y]) => [...view.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3)];
      window.samples.push({frame: +view.dataset.frame, epoch: +view.dataset.epoch, layer: view.dataset.layer, legend: +legend.dataset.epoch,
        names: [...legend.children].map(row => row.dataset.name), probes: probes.map(at)});
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""


@check("the webcam: words changed 50 times in mid-stream, no frame under wrong words, no freeze")
def words_in_mid_stream(server, browser):
    page = Page(context := browser.new_context(viewport={"width": 1280, "height": 900}), server.page).ready()
    page.page.click("#camera")
    page.shown(page.chips())
    page.opaque()
    probes = [[int(x), int(y)] for x, y in np.random.default_rng(2).integers(0, (640, 480), (24, 2))]
    page.page.evaluate(SAMPLER % json.dumps(probes))
    random = np.random.default_rng(3)
    for change in range(50):
        chips = page.chips()
        if len(chips) > 3 and random.random() < 0.5:
            page.page.click(f"[aria-label='Remove {random.choice(chips)}']")
        else:
            page.type(f"{random.choice(WORDS)} {change}")
        if random.random() < 0.5:
            page.page.wait_for_timeout(int(random.integers(0, 150)))
        else:
            page.shown(page.chips())
    last = page.chips()
    page.shown(last)
    samples, longest = page.page.evaluate("[window.samples, window.longest]")
    assert {len(sample["names"]) for sample in samples} != 1
    epochs = [sample["epoch"] for sample in samples]
    assert epochs == sorted(epochs), "old words came back"
    lists = {}
    for sample in samples:
        assert sample["layer"] == "labels" and sample["legend"] == sample["epoch"], sample
        assert sample["names"] == page.lists[sample["epoch"]] == page.answers[sample["frame"]]["labels"], sample
        lists.setdefault(tuple(sample["names"]), []).append(sample)
    for names, of in lists.items():
        truth = masks_of_cli({str(sample["frame"]): page.picture(sample["frame"]) for sample in of}, names)
        for sample in of:
            palette = page.colours(sample["frame"])
            right = [palette[truth[str(sample["frame"])][y, x]].tolist() for x, y in probes]
            assert right == sample["probes"], (sample["frame"], names)
    # Both photos of the webcam came by.
    over = re.search(r"(\d+) ms: engine ([\d.]+)", page.text("#rate"))
    means = {tuple((page.picture(sample["frame"]).mean((0, 1)) // 16).astype(int)) for sample in samples}
    assert len(means) > 1, means
    print(f"    {len(samples)} frames of {len(lists)} lists; the longest pause {longest:.0f} ms; the last frame took {over[1]} ms, the engine {over[2]} of them")
    seen = len(samples)
    until(lambda: page.page.evaluate("window.samples.length") > seen + 3, "frames go on")
    page.page.click("#camera")
    page.close()
    context.close()


@check("refused words leave the old ones in force, and a sentence")
def refused_words(server, browser):
    page = Page(context := browser.new_context(), server.page).ready()
    page.page.click("#demo")
    words = page.chips()
    page.shown(words)
    page.type("very " * 90)
    until(lambda: "tokens" in page.text("#message"), lambda: page.text("#message"))
    assert page.legend() == words and page.data("layer") == "labels"
    page.page.keyboard.press("Backspace")
    page.type("moon")
    page.shown([*words, "moon"])
    (FOLDER / "text.png").write_text("no picture")
    page.drop(FOLDER / "text.png")
    until(lambda: "no picture that this browser can show" in page.text("#message"), lambda: page.text("#message"))
    page.close()
    context.close()


@check("by keyboard alone")
def keyboard(server, browser):
    page = Page(context := browser.new_context(), server.page).ready()
    keys = page.page.keyboard

    def go_to(selector):
        for _ in range(60):
            if page.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            keys.press("Tab")
        raise AssertionError(f"Tab never came to {selector}")

    go_to("#demo")
    keys.press("Enter")
    words = page.chips()
    page.shown(words)
    go_to("#word")
    keys.type("moon,")
    keys.type("sun")
    keys.press("Enter")
    page.shown([*words, "moon", "sun"])
    keys.press("Shift+Tab")
    keys.press("Delete")
    page.shown([*words, "moon"])
    go_to("#legend button")
    until(lambda: page.data("layer") == f"heat {words[0]}", "heat by focus")
    go_to("#view")
    keys.press("ArrowRight")
    x, y = map(int, re.search(r"x (\d+), y (\d+)", page.text("#under")).groups())
    keys.press("ArrowRight")
    keys.press("ArrowDown")
    assert f"x {x + 1}, y {y + 1}" in page.text("#under"), page.text("#under")
    keys.press("Enter")
    until(lambda: page.data("layer") == "like", lambda: page.text("#message"))
    page.close()
    context.close()


@check("360 pixels wide, and nothing jumps")
def narrow(server, browser):
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark", reduced_motion="reduce", has_touch=True)
    page = Page(context, server.page)
    page.page.evaluate("() => { window.shift = 0; new PerformanceObserver(list => { for (const e of list.getEntries()) window.shift += e.value }).observe({type: 'layout-shift', buffered: true}) }")
    page.ready()
    page.page.click("#demo")
    page.shown(page.chips())
    page.page.tap("#view")
    until(lambda: page.text("#under").strip(), "a label under the finger")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.page.evaluate("[...document.querySelectorAll('button, .pick')].filter(b => b.offsetParent && Math.min(b.offsetWidth, b.offsetHeight) < 32).map(b => b.outerHTML)")
    assert not small, small
    shift = page.page.evaluate("window.shift")
    assert shift < 0.02, shift
    page.close()
    context.close()


@check("8 tabs, each with words of its own; a ninth is told; one closed in mid-frame makes room")
def tabs(server, browser):
    context = browser.new_context(viewport={"width": 900, "height": 700})
    pages = [Page(context, server.page).ready() for _ in range(8)]
    for number, page in enumerate(pages):
        page.page.click("#demo")
        page.type(f"thing {number}")
    for number, page in enumerate(pages):
        words = page.chips()
        assert words[-1] == f"thing {number}"
        frame = page.shown(words)
        truth = masks_of_cli({"it": PHOTOS[0]}, words)["it"]
        page.page.bring_to_front()
        page.opaque()
        assert (page.canvas() == page.colours(frame)[truth]).all()
    ninth = Page(context, server.page)
    until(lambda: "All 8 places are taken" in ninth.text("#message"), lambda: ninth.text("#message"))
    ninth.errors.clear()
    pages[0].page.bring_to_front()
    pages[0].page.click("#camera")
    until(lambda: pages[0].page.wait_for_timeout(20) or len(pages[0].answers) > 3, "frames", 90)
    pages[0].page.wait_for_timeout(30)
    pages[0].page.close()
    ninth.ready()
    ninth.errors.clear()
    ninth.page.click("#demo")
    ninth.shown(ninth.chips())
    for page in [*pages[1:], ninth]:
        page.close()
    context.close()
    until(lambda: json.loads(server.ask("GET", "/api/info")[1])["clients"] == 0, "all places are free")


@check("a foreign page and a name pointed at this machine are refused")
def foreign(server, browser):
    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>foreign</title>")

        def log_message(self, *_):
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    page = (context := browser.new_context()).new_page()
    page.goto(f"http://localhost:{other.server_port}/")
    tries = """async port => {
      const socket = await new Promise(done => { const s = new WebSocket(`ws://localhost:${port}/ws`); s.onopen = () => done('open'); s.onerror = () => done('refused'); });
      const read = await fetch(`http://localhost:${port}/api/info`).then(a => a.text(), () => 'refused');
      const image = await new Promise(done => { const i = new Image(); i.onload = () => done('loaded'); i.onerror = () => done('refused'); i.src = `http://localhost:${port}/demo.png`; });
      return [socket, read, image];
    }"""
    assert page.evaluate(tries, server.port) == ["refused"] * 3
    answer = page.goto(f"http://rebound.test:{server.port}/")
    assert answer.status == 403 and "no name" in answer.text(), answer.status
    context.close()
    other.shutdown()


@check("20 MB are taken, 20 MB + 1 refused; bad photos are sentences")
def limits(server, browser):
    photo = PHOTOS[1].read_bytes()
    most = photo + bytes(20_000_000 - len(photo))
    status, body = server.ask("POST", "/api/segment?labels=cat,other", most)
    assert status == 200, body
    status, body = server.ask("POST", "/api/segment?labels=cat,other", most + b"\0")
    assert status == 413 and "20 MB" in json.loads(body)["error"], (status, body)
    status, body = server.ask("POST", "/api/segment?labels=cat,other", b"no photo at all")
    assert status == 422 and json.loads(body)["error"], (status, body)


@check("a lost server is said, and found again with the words in force")
def reconnect(server, browser):
    mine = Server()
    page = Page(context := browser.new_context(), mine.page).ready()
    page.page.click("#demo")
    page.type("moon")
    words = page.chips()
    page.shown(words)
    assert mine.end() == 0
    until(lambda: "trying again" in page.text("#message"), lambda: page.text("#message"))
    command = [BINARY, "serve", "--port", str(mine.port), "--device", "cpu", "-q"]
    again = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    page.ready()
    page.answers.clear()
    until(lambda: page.text("#rate") and page.answers, "an answer of the new server")
    assert page.chips() == page.legend() == words
    page.errors.clear()
    page.close()
    context.close()
    again.terminate()
    assert again.wait(20) == 0


@check("with a token only who has it")
def token(server, browser):
    mine = Server("--token", "correct-horse")
    page = (context := browser.new_context()).new_page()
    assert page.goto(mine.page).status == 401
    page.goto(mine.page + "?token=correct-horse")
    until(lambda: page.wait_for_timeout(5) or "demo model" in page.locator("#about").inner_text(), "the page by its token")
    assert page.url == mine.page
    page.reload()
    until(lambda: page.wait_for_timeout(5) or "demo model" in page.locator("#about").inner_text(), "the page by its cookie")
    context.close()
    assert mine.end() == 0


# ---- the webcam, and the run of it all


def webcam():
    """Both photos at 640×480, half a second each."""
    path = FOLDER / "webcam.y4m"
    with path.open("wb") as out:
        out.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for photo in PHOTOS:
            ycc = np.array(Image.open(photo).convert("RGB").resize((640, 480)).convert("YCbCr"))
            chroma = ycc[..., 1:].reshape(240, 2, 320, 2, 2).mean((1, 3)).astype(np.uint8)
            frame = b"FRAME\n" + ycc[..., 0].tobytes() + chroma[..., 0].tobytes() + chroma[..., 1].tobytes()
            out.write(15 * frame)
    return path


def lift_loopback():
    """In a network of its own, this machine's own address is not there yet."""
    with contextlib.suppress(OSError), socket.socket() as any_socket:
        name = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("h", fcntl.ioctl(any_socket, 0x8913, name), 16)[0]
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))


def main():
    lift_loopback()
    wanted = sys.argv[2:]
    server = Server()
    failed = 0
    with sync_playwright() as playwright:
        chromium = os.environ.get("LSEG_CHROMIUM") or shutil.which("chromium")
        flags = [*FLAGS, f"--use-file-for-fake-video-capture={webcam()}"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        for name, function in CHECKS:
            if wanted and function.__name__ not in wanted:
                continue
            start = time.monotonic()
            try:
                function(server, browser)
                print(f"ok   {name} ({time.monotonic() - start:.1f} s)", flush=True)
            except (Exception, SystemExit) as error:  # noqa: BLE001: the others are still to be run
                failed += 1
                import traceback

                traceback.print_exc()
                print(f"FAIL {name}: {error}", flush=True)
                for context in browser.contexts:
                    context.close()
        browser.close()
    code = server.end()
    print(f"SIGTERM: exit code {code}")
    shutil.rmtree(FOLDER)
    sys.exit(1 if failed or code else 0)


main()
