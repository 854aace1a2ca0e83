"""A psql script, taken apart into statements and psql's own commands.

Only what PostgreSQL's scripts use of psql is understood: variables, `\\if`, `\\gset`, `\\gexec`, `\\c`, data of `COPY FROM
STDIN`. What is not is passed on as a command that the runner leaves alone.
"""

import re

WORD = re.compile(r"[A-Za-z_\x80-\uffff][A-Za-z0-9_$\x80-\uffff]*")
DOLLAR = re.compile(r"\$([A-Za-z_\x80-\uffff][A-Za-z0-9_\x80-\uffff]*)?\$")
VARIABLE = re.compile(r":(\{\?\w+\}|'\w+'|\"\w+\"|\w+)")
SENDS = {"g", "gx", "gset", "gexec", "gdesc", "crosstabview", "bind", "watch"}


class Script:
    def __init__(self, text, variables, environment):
        self.text, self.at = text, 0
        self.variables, self.environment = dict(variables), environment
        # None: no branch of this \if may be taken any more.
        self.branches = []
        # standard_conforming_strings, which decides how a literal ends.
        self.standard = True

    def items(self):
        """('sql', text, how it is sent), ('meta', command, arguments)."""
        text, parts, depth, words, bodies = self.text, [], 0, [], 0
        while self.at < len(text):
            char, two = text[self.at], text[self.at : self.at + 2]
            active = all(self.branches)
            if two == "--":
                self.at = self._line_end()
            elif two == "/*":
                self._take(parts, self._comment_end())
            elif char == "'":
                before = "".join(parts[-3:])
                escapes = not self.standard or re.search(r"(^|[^A-Za-z0-9_$])[eE]$", before)
                self._take(parts, self._quoted_end("'", escapes))
            elif char == '"':
                self._take(parts, self._quoted_end('"', False))
            elif char == "$" and self._dollar(parts):
                pass
            elif two == "::":
                self._take(parts, self.at + 2)
            elif char == ":" and self._variable(parts):
                pass
            elif two == "\\;":
                parts.append(";")
                self.at += 2
            elif char == "\\":
                line = text[self.at : self._line_end()]
                command, arguments = re.match(r"\\([A-Za-z_!?+]+|.)?\s*(.*)$", line, re.S).groups()
                command, arguments = command or "", arguments.strip()
                self.at = self._line_end()
                if self._branch(command, arguments) or not active:
                    continue
                if command in SENDS or command == "r":
                    sent, parts, depth, words = "".join(parts), [], 0, []
                    if command != "r":
                        yield "sql", sent, (command, arguments)
                elif command in ("quit", "q"):
                    return
                elif not self._set(command, arguments):
                    yield "meta", command, arguments
            elif char == ";" and depth == 0 and bodies == 0:
                self.at += 1
                sent, parts, words = "".join(parts), [], []
                if active and sent.strip():
                    yield "sql", sent, None
            elif word := WORD.match(text, self.at):
                lower = word.group().lower()
                words.append(lower)
                # BEGIN ATOMIC … END holds semicolons.
                if words[0] == "create" and depth == 0 and {"function", "procedure"} & set(words[:5]):
                    if lower == "begin" or lower == "case" and bodies:
                        bodies += 1
                    elif lower == "end" and bodies:
                        bodies -= 1
                self._take(parts, word.end())
            else:
                depth = max(0, depth + (char == "(") - (char == ")"))
                self._take(parts, self.at + 1)
        sent = "".join(parts)
        if sent.strip() and all(self.branches):
            yield "sql", sent, None

    def data(self):
        """The lines after `COPY … FROM STDIN`."""
        start = self._line_end() + 1
        end = re.compile(r"^\\\.\s*$", re.M).search(self.text, start)
        if not end:
            return ""
        self.at = end.end()
        return self.text[start : end.start()]

    def line(self):
        return self.text.count("\n", 0, self.at) + 1

    def filled(self, text):
        """The arguments of a command, with its variables filled in."""
        return re.sub(r":'?\"?(\w+)'?\"?", lambda m: self.variables.get(m.group(1), m.group(0)), text)

    def _take(self, parts, end):
        parts.append(self.text[self.at : end])
        self.at = end

    def _line_end(self):
        end = self.text.find("\n", self.at)
        return len(self.text) if end < 0 else end

    def _comment_end(self):
        deep, at = 1, self.at + 2
        while at < len(self.text) and deep:
            two = self.text[at : at + 2]
            deep += (two == "/*") - (two == "*/")
            at += 2 if two in ("/*", "*/") else 1
        return at

    def _quoted_end(self, quote, escapes):
        at = self.at + 1
        while at < len(self.text):
            if escapes and self.text[at] == "\\":
                at += 2
            elif self.text[at] != quote:
                at += 1
            elif self.text[at + 1 : at + 2] == quote:
                at += 2
            else:
                return at + 1
        return at

    def _dollar(self, parts):
        tag = DOLLAR.match(self.text, self.at)
        before = parts[-1][-1:] if parts else ""
        if not tag or before.isalnum() or before == "_":
            return False
        end = self.text.find(tag.group(), tag.end())
        self._take(parts, len(self.text) if end < 0 else end + len(tag.group()))
        return True

    def _variable(self, parts):
        found = VARIABLE.match(self.text, self.at)
        if not found:
            return False
        written = found.group(1)
        name = written.strip("'\"{}?")
        if written.startswith("{"):
            value = "TRUE" if name in self.variables else "FALSE"
        elif name not in self.variables:
            return False
        else:
            value = self.variables[name]
            if written[0] in "'\"":
                value = written[0] + value.replace(written[0], written[0] * 2) + written[0]
        parts.append(value)
        self.at = found.end()
        return True

    def _branch(self, command, arguments):
        if command == "if":
            self.branches.append(self._true(arguments) if all(self.branches) else None)
        elif command in ("elif", "else") and self.branches:
            last = self.branches[-1]
            self.branches[-1] = None if last or last is None else command == "else" or self._true(arguments)
        elif command == "endif" and self.branches:
            self.branches.pop()
        else:
            return False
        return True

    def _true(self, text):
        text = re.sub(r":\{\?(\w+)\}", lambda m: str(m.group(1) in self.variables), text)
        return self.filled(text).strip().lower() in ("t", "true", "on", "1", "yes")

    def _set(self, command, arguments):
        if command == "set":
            parts = re.findall(r"'(?:[^']|'')*'|:'\w+'|:\"\w+\"|:\w+|[^\s:']+", arguments)
            values = [self._value(part) for part in parts]
            if values:
                self.variables[values[0]] = "".join(values[1:])
        elif command == "unset":
            self.variables.pop(arguments, None)
        elif command == "getenv":
            name, source = (arguments.split() + ["", ""])[:2]
            if source in self.environment:
                self.variables[name] = self.environment[source]
        else:
            return False
        return True

    def _value(self, part):
        if part.startswith("'"):
            return part[1:-1].replace("''", "'").replace("\\n", "\n")
        if part.startswith(":"):
            quote = part[1] if part[1] in "'\"" else ""
            return quote + self.variables.get(part[1:].strip("'\""), "") + quote
        return part
