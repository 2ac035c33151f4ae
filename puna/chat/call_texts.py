"""Where calls stand in the text of an answer; everything else is content, handed on at once.

A call counts
- after the python tag, in every form; what is none of them is code, where an interpreter is
  declared, and text where it is not;
- at the beginning of an answer, as an object, a list or a function tag;
- after prose, where an object or a list begins a line, or a function tag a word; but not inside a
  code fence, which shows a call and does not make it;
- directly after another call, with white space, a semicolon or a comma between them.

Only declared tools are called. A call that breaks off, or an object that turns out to be data,
is text, and so is everything after it: a broken call never gives way to another one inside its
arguments.
"""

import re

from puna.chat.call_forms import (
    BrokenCallError,
    Callables,
    NoCallError,
    OtherValueError,
    read_list_calls,
    read_method_call,
    read_object_call,
    read_tag_call,
    skip_closing_tag,
)
from puna.chat.declared import CODE_INTERPRETER
from puna.chat.incoming import Incoming, Reading
from puna.chat.messages import ToolCall

_PROSE_END = re.compile(r"[\n<]")  # after the one, or at the other, a call may begin
_UNFINISHED = re.compile(r"[(\[{,=]$|[\"']:$")  # a line that ends so goes on in the next one
_RECENT = 80  # signs; of more white space than that, no line goes on
_FENCE = "```"
_METHOD = "("  # among the forms: a name with arguments; the others are told by their first sign

Found = list[str | ToolCall]  # content and calls, in the order of the answer


class CallTexts:
    """Finds the calls in one stretch of text, between control tokens, while it arrives."""

    def __init__(self, tools: Callables, *, is_tagged: bool) -> None:
        self._tools = tools
        self._names = tools.names if is_tagged else tools.declared
        self._is_tagged = is_tagged
        self._source = Incoming()
        self._found: Found = []
        self._is_complete = False  # whether a control token ended the stretch
        self._is_fenced = False
        self._recent = ""  # the last signs of the prose that stands before a place
        self._waits_in_prose = False  # whether the reader is paused where no call has begun
        self._is_only_text = not self._names  # whether nothing can be a call any more
        self._reader = self._read()
        next(self._reader)

    def feed(self, text: str) -> Found:
        """Take more text; return what it settles."""
        if self._waits_in_prose and (self._is_only_text or not _PROSE_END.search(text)):
            self._recent = (self._recent + text)[-_RECENT:]
            return [text] if text else []
        if text:
            self._source.feed(text)
            next(self._reader)
        return self._take()

    def close(self, *, is_complete: bool) -> Found:
        """Return what the end of the text settles; `is_complete` is False where it was cut off."""
        self._is_complete = is_complete
        self._source.is_closed = True
        next(self._reader, None)
        return self._take()

    def _take(self) -> Found:
        found, self._found = self._found, []
        return found

    def _say(self, text: str) -> None:
        """Hand on text that is content."""
        if text:
            self._found.append(text)
            self._recent = (self._recent + text)[-_RECENT:]

    def _read(self) -> Reading[None]:
        """Read the whole stretch."""
        if self._names:
            self._source.hold()
            yield from self._read_calls("[{<" + _METHOD * self._is_tagged, is_first=True)
        yield from self._read_prose()

    def _read_prose(self) -> Reading[None]:
        source = self._source
        while True:
            start = source.at
            if start == len(source.text):
                if source.is_closed:
                    return
                self._waits_in_prose = True
                yield
                self._waits_in_prose = False
                continue
            end = None if self._is_only_text else _PROSE_END.search(source.text, start)
            if end is None:
                source.at = len(source.text)
                self._say(source.text[start:])
            elif end.group() == "\n":
                source.at = end.end()
                self._say(source.text[start : source.at])
                yield from self._begin_line()
            else:
                source.at = end.start()
                self._say(source.text[start : source.at])
                if not self._is_fenced and not self._recent[-1:].strip():
                    source.hold()
                    yield from self._read_calls("<")
                else:
                    source.at += 1
                    self._say("<")

    def _begin_line(self) -> Reading[None]:
        """Read what may stand only at the beginning of a line: a call, or the sign of a fence."""
        sign = yield from self._source.sign()
        if sign == "`":
            yield from self._read_fence()
        elif sign in ("{", "[") and not self._is_fenced and not self._is_unfinished():
            self._source.hold()
            yield from self._read_calls("[{")

    def _is_unfinished(self) -> bool:
        """Whether the line before goes on in the next one, as inside brackets."""
        return _UNFINISHED.search(self._recent.rstrip()) is not None

    def _read_fence(self) -> Reading[None]:
        for letter in _FENCE:
            if (yield from self._source.sign()) != letter:
                return
            self._source.at += 1
            self._say(letter)
        self._is_fenced = not self._is_fenced

    def _read_calls(self, forms: str, *, is_first: bool = False) -> Reading[None]:
        """Read the calls that stand here, one after another; what is none of them is content.

        Args:
            forms: first signs of the forms that the first call may have.
            is_first: whether the stretch begins here.
        """
        source = self._source
        while True:
            sign = yield from source.sign_after_space()
            try:
                calls = yield from self._read_form(sign, forms)
            except NoCallError as error:
                is_broken = isinstance(error, BrokenCallError)
                if is_first and self._is_tagged and not is_broken:
                    yield from self._read_code()
                else:
                    self._is_only_text = is_broken or isinstance(error, OtherValueError)
                    self._say(source.release())
                    if sign == "`":
                        yield from self._read_fence()
                return
            source.release()
            self._found += calls
            self._recent = ""
            if sign == "<":
                yield from skip_closing_tag(source)
            is_first = False
            forms = "{<" + _METHOD * self._is_tagged
            yield from self._skip_separator(forms)
            source.hold()

    def _read_form(self, sign: str, forms: str) -> Reading[list[ToolCall]]:
        """Read one call, or one list of calls, by its first sign."""
        source, names, tools = self._source, self._names, self._tools
        if not sign or (sign if sign in "[{<" else _METHOD) not in forms:
            raise NoCallError
        match sign:
            case "[":
                return (yield from read_list_calls(source, names, tools))
            case "{":
                return [(yield from read_object_call(source, names, tools))]
            case "<":
                return [(yield from read_tag_call(source, names, tools))]
            case _:
                return [(yield from read_method_call(source, names, tools))]

    def _skip_separator(self, forms: str) -> Reading[None]:
        """Take what stands between two calls: white space, and a semicolon or a comma."""
        source = self._source
        sign = yield from source.sign_after_space()
        if sign == ";":
            source.at += 1
            yield from source.sign_after_space()
        elif sign == ",":
            source.hold()
            source.at += 1
            sign = yield from source.sign_after_space()
            text = source.release()
            if sign not in forms and not (self._is_tagged and sign.isidentifier()):
                self._say(text)

    def _read_code(self) -> Reading[None]:
        """Read the rest of a tagged stretch that is no call.

        It is code for the interpreter. Half a program is no program: what was cut off is content,
        and so is everything where no interpreter is declared.
        """
        source = self._source
        has_interpreter = CODE_INTERPRETER in self._names
        if not has_interpreter:
            self._is_only_text = True
            self._say(source.release())
            return
        while (yield from source.sign()):
            source.at = len(source.text)
        code = source.release()
        if self._is_complete and code.strip():
            self._found.append(ToolCall(name=CODE_INTERPRETER, arguments={"code": code}))
        else:
            self._say(code)
