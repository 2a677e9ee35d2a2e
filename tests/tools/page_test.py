"""The chat page in a real browser against the real server.

page_test.py LAPIDARY CHROMIUM REPOSITORY [--screenshot FILE]

Chromium is driven over its debugging pipe (JSON messages that end with a zero byte), so nothing but
the standard library is needed.
"""
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import time


class Browser:
    def __init__(self, chromium, folder):
        to_read, self.to = os.pipe()
        self.back, back_write = os.pipe()

        def wire():  # the browser reads descriptor 3 and writes 4
            os.dup2(to_read, 1000), os.dup2(back_write, 1001)
            os.dup2(1000, 3), os.dup2(1001, 4)

        self.process = subprocess.Popen(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--remote-debugging-pipe", "--user-data-dir=" + folder, "about:blank"],
            preexec_fn=wire, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read), os.close(back_write)
        self.buffer, self.count, self.session, self.complaints, self.canned = b"", 0, None, [], None
        pages = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=pages[0]["targetId"],
                                 flatten=True)["sessionId"]
        for domain in "Page", "Runtime", "Log":
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=1000, height=860,
                  deviceScaleFactor=1, mobile=False)

    def send(self, method, params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        return self.count

    def call(self, method, **params):
        number = self.send(method, params)
        while True:
            while b"\0" not in self.buffer:
                chunk = os.read(self.back, 1 << 16)
                assert chunk, "the browser has gone"
                self.buffer += chunk
            text, self.buffer = self.buffer.split(b"\0", 1)
            message = json.loads(text)
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self.note(message.get("method"), message.get("params"))

    def note(self, method, params):
        if method in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(params)
        if method == "Fetch.requestPaused":  # answered with what the test wants said
            self.send("Fetch.fulfillRequest", {
                "requestId": params["requestId"], "responseCode": 200,
                "responseHeaders": [{"name": "Content-Type", "value": "text/event-stream"}],
                "body": base64.b64encode(self.canned.encode()).decode()})

    def js(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression, seconds=20):
        end = time.time() + seconds
        while not self.js(f"!!({expression})"):
            assert time.time() < end, f"waited in vain for {expression}\n" + self.js("document.body.innerText")
            time.sleep(0.05)

    def say(self, text):
        before = self.js("document.querySelectorAll('.turn.model').length")
        self.js("document.getElementById('say').value = %s;"
                "document.getElementById('composer').requestSubmit()" % json.dumps(text))
        self.wait_answer(before + 1)

    def wait_answer(self, n):
        self.wait(f"document.querySelectorAll('.turn.model').length == {n}"
                  " && document.getElementById('stop').hidden"
                  " && document.querySelector('.turn.model:last-child .tail').textContent")

    def last(self, what):
        return self.js(f"document.querySelector('.turn.model:last-child {what}')?.innerText ?? null")


def check(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


def events(*deltas):
    lines = [json.dumps({"choices": [{"index": 0, "delta": d, "finish_reason": None}]}) for d in deltas]
    lines.append(json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    lines.append(json.dumps({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}}))
    return "".join(f"data: {line}\n\n" for line in lines + ["[DONE]"])


def run(page, screenshot):
    page.wait("document.querySelector('#model option')")
    check(page.js("document.getElementById('model').value"), "nano-e")

    page.say("Give the name, age and city in this text as JSON.\nQuinn Jensen is 18 years old and lives in Brasilia.")
    check(page.last(".text"), '{"name": "Quinn Jensen", "age": 18, "city": "Brasilia"}')
    assert re.match(r"\d+ tokens .* prompt \d+", page.last(".tail span")), page.last(".tail span")

    # A tool declared in the settings is called, and its result goes back.
    page.js("document.getElementById('open-settings').click()")
    page.js("document.getElementById('example-tools').click();"
            "document.querySelector('[name=system]').value = 'You can call functions.';"
            "document.querySelector('[name=temperature]').value = '0';"
            "document.querySelector('#settings .main').click()")
    page.say("What is the weather in Oslo in celsius?")
    check(page.last(".call b"), "get_weather")
    check(json.loads(page.last(".call pre")), {"city": "Oslo", "unit": "celsius"})
    page.js("document.querySelector('.call textarea').value = '{\"degrees\": 4, \"sky\": \"clear\"}'")
    if screenshot:
        with open(screenshot, "wb") as out:
            out.write(base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"]))
    page.js("document.querySelector('.call textarea').form.requestSubmit()")
    page.wait_answer(3)
    check(page.js("document.querySelector('.call .head span').textContent"), "was called")

    # What a model could say: thoughts are folded, Markdown is shown, markup stays text.
    page.js("document.getElementById('fresh').click()")
    check(page.js("document.getElementById('chat').children.length"), 0)
    page.canned = events({"role": "assistant", "content": ""}, {"reasoning_content": "Let me "},
                         {"reasoning_content": "see."}, {"content": "**Bold** <img src=x onerror=alert(1)>\n\n```\nco"},
                         {"content": "de\n```\n\n[bad](javascript:alert(1)) [good](https://example.org/)"})
    page.call("Fetch.enable", patterns=[{"urlPattern": "*/v1/chat/completions"}])
    page.say("<b>hello</b>")
    check(page.js("document.querySelector('.turn.user .text').innerHTML"), "&lt;b&gt;hello&lt;/b&gt;")
    check(page.js("document.querySelector('.thought').open"), False)
    check(page.js("document.querySelector('.thought .inside').textContent"), "Let me see.")
    check(page.last("strong"), "Bold")
    check(page.last("pre"), "code")
    check(page.js("document.querySelectorAll('#chat img').length"), 0)
    check(page.js("[...document.querySelectorAll('#chat a')].map(a => a.href).join()"), "https://example.org/")

    # A stream that breaks off says so.
    page.canned = "data: " + json.dumps({"error": {"message": "the model has gone"}}) + "\n\n"
    page.say("And now?")
    check(page.last("[role=alert]"), "the model has gone")

    before = page.js("getComputedStyle(document.body).backgroundColor")
    page.js("document.getElementById('theme').click()")
    assert page.js("getComputedStyle(document.body).backgroundColor") != before
    # Everything that can be pressed or filled in has a name.
    check(page.js("[...document.querySelectorAll('button, select, input, textarea')].filter(e => "
                  "!(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length"), 0)
    check(page.complaints, [])


def main():
    lapidary, chromium, repository = sys.argv[1:4]
    screenshot = sys.argv[5] if len(sys.argv) > 5 else None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        model = os.path.join(folder, "nano-e.lap")
        subprocess.run([lapidary, "quantize", os.path.join(repository, "tests/data/nano-e"), "-o", model,
                        "--weights", "w4", "--quiet"], check=True)
        server = subprocess.Popen([lapidary, "serve", model, "--port", "0", "--threads", "2"],
                                  stderr=subprocess.PIPE, text=True)
        browser = None
        try:
            address = re.search(r"http://\S+", server.stderr.readline()).group()
            browser = Browser(chromium, os.path.join(folder, "profile"))
            browser.call("Page.navigate", url=address + "/")
            run(browser, screenshot)
        finally:
            server.terminate()
            server.wait()
            if browser:
                browser.process.kill()
                browser.process.wait()
    print("the page works")


if __name__ == "__main__":
    main()
