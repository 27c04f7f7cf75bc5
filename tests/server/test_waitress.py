"""What `dockmesh/server/` uses of waitress's inside is in docs/wsgi-server.md, and is what it was when that was written.

A new release of waitress that changes one of these names fails here: read what it changed before the mark is renewed.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from waitress import buffers, channel, parser, receiver, server, task, trigger, wasyncore

ROOT = Path(__file__).resolve().parents[2]
LEAN = sorted((ROOT / "dockmesh/server").glob("*.py"))
CLASSES = {
    each.__name__: each
    for each in (
        buffers.FileBasedBuffer,
        buffers.OverflowableBuffer,
        buffers.ReadOnlyFileBasedBuffer,
        channel.HTTPChannel,
        parser.HTTPRequestParser,
        receiver.FixedStreamReceiver,
        server.BaseWSGIServer,
        server.TcpWSGIServer,
        task.ErrorTask,
        task.Task,
        task.ThreadedTaskDispatcher,
        task.WSGITask,
        trigger.trigger,
        wasyncore.dispatcher,
    )
}
# Names of waitress's that `dockmesh/server/` uses for something else, or that Python's own objects have.
OF_OTHERS = {"accept", "bind", "family", "getsockname", "listen", "recv", "run", "start", "__iter__"}

MARKS = {  # of 3.0.2
    "BaseWSGIServer.__init__": "c2ad5c565a53",
    "BaseWSGIServer.active_channels": "ad415e4ff602",
    "BaseWSGIServer.add_task": "cfa3700a6ec2",
    "BaseWSGIServer.adj": "d861ea73f91d",
    "BaseWSGIServer.channel_class": "6ab7f0be8c9f",
    "BaseWSGIServer.handle_accept": "1dc8c2ca47aa",
    "BaseWSGIServer.in_connection_overflow": "6459e63338c5",
    "BaseWSGIServer.pull_trigger": "8538a726ab48",
    "BaseWSGIServer.trigger": "cbb63be07731",
    "ErrorTask.execute": "ae2839497012",
    "FileBasedBuffer.__len__": "458775c56f12",
    "FileBasedBuffer.close": "1514bb9ebf6c",
    "FileBasedBuffer.skip": "dd734c2dc3b5",
    "FixedStreamReceiver.__len__": "8277936c020a",
    "FixedStreamReceiver.completed": "ef985dbd88c6",
    "FixedStreamReceiver.error": "d3788fd6eedc",
    "FixedStreamReceiver.getbuf": "acd22fbb06ce",
    "FixedStreamReceiver.getfile": "67118edf17fe",
    "FixedStreamReceiver.received": "9987f5b6b8c9",
    "HTTPChannel.__init__": "ce434fab7245",
    "HTTPChannel.addr": "49e0c8674f35",
    "HTTPChannel.adj": "d6bfa39afb42",
    "HTTPChannel.cancel": "4b8c5113e539",
    "HTTPChannel.close_when_flushed": "945ab5b449a7",
    "HTTPChannel.connected": "602a4aeebb96",
    "HTTPChannel.del_channel": "739528c24e27",
    "HTTPChannel.error_task_class": "9867af7f9bea",
    "HTTPChannel.handle_close": "cf813f3184a4",
    "HTTPChannel.outbufs": "85e19c9685de",
    "HTTPChannel.parser_class": "0ffd0e55c8e2",
    "HTTPChannel.readable": "0f90c0c9f4ec",
    "HTTPChannel.received": "88e4f14ad908",
    "HTTPChannel.request": "edb02b92efc4",
    "HTTPChannel.requests": "87aaf7d33fe4",
    "HTTPChannel.requests_lock": "f26a00c1e001",
    "HTTPChannel.send": "7ae23691fc87",
    "HTTPChannel.send_continue": "cc6764f52ca3",
    "HTTPChannel.sent_continue": "735e99977056",
    "HTTPChannel.server": "045b6cb2f22d",
    "HTTPChannel.service": "b627ee8c1d60",
    "HTTPChannel.task_class": "a5a173a4cc19",
    "HTTPChannel.total_outbufs_len": "2f07aed6e6a1",
    "HTTPChannel.will_close": "51acb041b7f3",
    "HTTPChannel.writable": "44ad6a4fb46f",
    "HTTPChannel.write_soon": "0f3146666e8a",
    "HTTPRequestParser.__init__": "b9c4a7ae9bf4",
    "HTTPRequestParser.adj": "791f4753bf18",
    "HTTPRequestParser.body_bytes_received": "25b45f05e3ea",
    "HTTPRequestParser.body_rcv": "a681829d391e",
    "HTTPRequestParser.chunked": "589486635fa1",
    "HTTPRequestParser.close": "70208af91d3a",
    "HTTPRequestParser.command": "593288ddddef",
    "HTTPRequestParser.completed": "8a7b64b6e1e9",
    "HTTPRequestParser.connection_close": "04d3068bbd0d",
    "HTTPRequestParser.content_length": "d1154e188a21",
    "HTTPRequestParser.empty": "75402a080d5d",
    "HTTPRequestParser.error": "f83370d5b771",
    "HTTPRequestParser.expect_continue": "7a1d0def14d3",
    "HTTPRequestParser.header_bytes_received": "4166f76aca08",
    "HTTPRequestParser.header_plus": "4af45d0ad235",
    "HTTPRequestParser.headers": "791f4753bf18",
    "HTTPRequestParser.headers_finished": "edc0ae32b858",
    "HTTPRequestParser.parse_header": "914b2e11adc8",
    "HTTPRequestParser.path": "593288ddddef",
    "HTTPRequestParser.query": "593288ddddef",
    "HTTPRequestParser.received": "432275291264",
    "HTTPRequestParser.version": "6ba8a2f1f929",
    "OverflowableBuffer.__init__": "b2ee3a2e4ca0",
    "OverflowableBuffer.append": "d503df8d61b0",
    "OverflowableBuffer.get": "82f756812a3a",
    "OverflowableBuffer.getfile": "1c8cce634ca3",
    "ReadOnlyFileBasedBuffer.__init__": "8ac126d35991",
    "ReadOnlyFileBasedBuffer.get": "0e7c0ead6ce8",
    "Task.build_response_header": "b9dd53eedb45",
    "Task.channel": "25e7ff67635d",
    "Task.close_on_finish": "82744b1be2ec",
    "Task.complete": "38a9751ce796",
    "Task.content_bytes_written": "c1b5143b672a",
    "Task.content_length": "eee2c3421afe",
    "Task.has_body": "a32cbe01a4d5",
    "Task.request": "83c22b25e21a",
    "Task.response_headers": "85251d49c898",
    "Task.service": "41e6938178c9",
    "Task.set_close_on_finish": "78e1b396d759",
    "Task.status": "3e0ae57858c0",
    "Task.write": "c67c9c9f90a7",
    "Task.wrote_header": "eb8e900a94e3",
    "TcpWSGIServer.set_socket_options": "1cfef590d74c",
    "ThreadedTaskDispatcher.add_task": "6740db4ffd26",
    "ThreadedTaskDispatcher.set_thread_count": "8e487fa25446",
    "ThreadedTaskDispatcher.shutdown": "8cd78901e3cb",
    "WSGITask.get_environment": "1b7b2efc954e",
    "dispatcher.__init__": "a68adfb3548a",
    "dispatcher._fileno": "beccddeed285",
    "dispatcher._map": "04d71e8381a7",
    "dispatcher.accepting": "3be800d47e80",
    "dispatcher.addr": "6ba6dd894abc",
    "dispatcher.connected": "35a8c76f695a",
    "dispatcher.del_channel": "b173e5c0f799",
    "dispatcher.readable": "b16f3fc5482a",
    "dispatcher.socket": "2c283e64d089",
    "dispatcher.writable": "82e8e61a5cdc",
    "trigger.pull_trigger": "3bd0e0883f5c",
    "wasyncore.close_all": "6b588549e991",
    "wasyncore.readwrite": "2467235cc3f4",
}


def documented() -> list[str]:
    section = (
        (ROOT / "docs/wsgi-server.md").read_text().split("## What of waitress's inside")[1].split("\n## ")[0]
    )
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]


def source_of(what: object) -> str:
    return textwrap.dedent(inspect.getsource(what))  # type: ignore[arg-type]


def sources(name: str) -> Iterator[str]:
    """What a name is: a function's source, or those of all functions and lines of its class that speak of the attribute."""
    owner, _, attribute = name.partition(".")
    found = getattr(wasyncore if owner == "wasyncore" else CLASSES[owner], attribute, None)
    if inspect.isfunction(found):
        yield source_of(found)
        return
    text = source_of(CLASSES[owner])
    (body,) = (node.body for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef))
    for node in body:
        part = ast.get_source_segment(text, node) or ""
        if re.search(rf"^{attribute} = |self\.{attribute}\b", part, re.MULTILINE):
            yield part


def mark(name: str) -> str:
    found = list(sources(name))
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:12] if found else ""


def of_waitress() -> set[str]:
    """The names that its classes have."""
    names: set[str] = set()
    for each in CLASSES.values():
        for node in ast.walk(ast.parse(source_of(each))):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id == "self":
                    names.add(node.attr)
            elif isinstance(node, ast.ClassDef):
                assigned = [part for part in node.body if isinstance(part, ast.Assign)]
                names |= {name.id for part in assigned for name in part.targets if isinstance(name, ast.Name)}
    return names


def used() -> set[str]:
    """The names that `dockmesh/server/` reads, sets or overrides."""
    names: set[str] = set()
    for path in LEAN:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.ClassDef):
                names |= {part.targets[0].id for part in node.body if isinstance(part, ast.Assign)
                          and isinstance(part.targets[0], ast.Name)}  # fmt: skip
    return names


def test_every_name_that_is_used_is_documented_and_the_other_way_round() -> None:
    known = {name.partition(".")[2] for name in documented()}
    assert used() & of_waitress() - OF_OTHERS - known == set()
    assert known - used() == set()
    assert len(set(documented())) == len(documented())


@pytest.mark.parametrize("name", documented())
def test_it_is_what_it_was(name: str) -> None:
    assert mark(name) == MARKS.get(name)


def test_there_is_no_mark_too_many() -> None:
    assert set(MARKS) == set(documented())
