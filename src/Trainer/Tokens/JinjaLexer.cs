using System.Globalization;
using System.Text;

namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// Cuts a template into tokens, with the white-space rules of trim_blocks and lstrip_blocks (as transformers sets them) and of the
/// signs - and + inside tags.
/// </summary>
internal sealed class JinjaLexer
{
    private static readonly string[] s_operators =
    [
        "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "(", ")", "[", "]", "{", "}", "<", ">", "=", ".", ":", "|", ",",
    ];

    private readonly string _source;
    private readonly List<JinjaToken> _tokens = [];
    private int _at;
    private int _line = 1;
    private bool _lineStarts = true;                          // what was consumed last ended a line

    private JinjaLexer(string source) => _source = source;

    /// <summary>The tokens of <paramref name="source"/>, ending with End.</summary>
    public static List<JinjaToken> Run(string source)
    {
        source = source.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');   // and no other line endings, as Jinja
        var lexer = new JinjaLexer(source.EndsWith('\n') ? source[..^1] : source);   // keep_trailing_newline is off
        lexer.Template();
        lexer.Add(JinjaTokenKind.End, "");
        return lexer._tokens;
    }

    private void Template()
    {
        while (_at < _source.Length)
        {
            var open = _at;
            while ((open = _source.IndexOf('{', open)) >= 0 && (open + 1 >= _source.Length || _source[open + 1] is not ('%' or '{' or '#')))
            {
                open++;
            }

            if (open < 0)
            {
                Data(_source[_at..]);
                _at = _source.Length;
                return;
            }

            var kind = _source[open + 1];
            var sign = open + 2 < _source.Length && _source[open + 2] is '-' or '+' ? _source[open + 2] : '\0';
            Data(Trimmed(_source.AsSpan(_at, open - _at), kind, sign).ToString(), open - _at);
            _at = open + 2 + (sign == '\0' ? 0 : 1);
            if (kind == '#')
            {
                Comment();
            }
            else if (kind == '{')
            {
                Tag(JinjaTokenKind.PrintBegin, "{{");
            }
            else if (!Raw())
            {
                Tag(JinjaTokenKind.BlockBegin, "{%");
            }
        }
    }

    private ReadOnlySpan<char> Trimmed(ReadOnlySpan<char> data, char kind, char sign)
    {
        if (sign == '-')
        {
            return JinjaText.TrimEnd(data);
        }

        if (sign == '+' || kind == '{')
        {
            return data;
        }

        var line = data.LastIndexOf('\n') + 1;
        return (line > 0 || _lineStarts) && JinjaText.Trim(data[line..]).IsEmpty ? data[..line] : data;
    }

    private void Data(string text, int consumed = -1)
    {
        if (text.Length > 0)
        {
            Add(JinjaTokenKind.Data, text);
        }

        CountLines(_at, consumed < 0 ? text.Length : consumed);
    }

    private void CountLines(int from, int length) => _line += _source.AsSpan(from, length).Count('\n');

    private void Comment()
    {
        var end = _source.IndexOf("#}", _at, StringComparison.Ordinal);
        if (end < 0)
        {
            throw new JinjaException("the comment that begins here has no '#}'", _line);
        }

        var sign = end > _at ? _source[end - 1] : '\0';
        CountLines(_at, end - _at);
        _at = end + 2;
        AfterTag(sign, trimNewline: true);
    }

    /// <summary>Text between {% raw %} and {% endraw %}, if that is what begins here.</summary>
    private bool Raw()
    {
        var at = _at;
        if (!Word(ref at, "raw") || !Close(ref at, out var sign))
        {
            return false;
        }

        CountLines(_at, at - _at);
        _at = at;
        AfterTag(sign, trimNewline: true);
        for (var open = _at; (open = _source.IndexOf("{%", open, StringComparison.Ordinal)) >= 0; open += 2)
        {
            at = open + 2;
            var before = at < _source.Length && _source[at] is '-' or '+' ? _source[at++] : '\0';
            if (Word(ref at, "endraw") && Close(ref at, out var after))
            {
                Data(Trimmed(_source.AsSpan(_at, open - _at), '%', before).ToString(), open - _at);
                CountLines(open, at - open);
                _at = at;
                AfterTag(after, trimNewline: true);
                return true;
            }
        }

        throw new JinjaException("the raw block that begins here has no 'endraw'", _line);
    }

    private bool Word(ref int at, string word)
    {
        while (at < _source.Length && JinjaText.IsSpace(_source[at]))
        {
            at++;
        }

        if (!_source.AsSpan(at).StartsWith(word))
        {
            return false;
        }

        at += word.Length;
        return at >= _source.Length || !(char.IsLetterOrDigit(_source[at]) || _source[at] == '_');
    }

    private bool Close(ref int at, out char sign)
    {
        while (at < _source.Length && JinjaText.IsSpace(_source[at]))
        {
            at++;
        }

        sign = at < _source.Length && _source[at] is '-' or '+' ? _source[at++] : '\0';
        if (!_source.AsSpan(at).StartsWith("%}"))
        {
            return false;
        }

        at += 2;
        return true;
    }

    /// <summary>Consumes the white space that belongs to the end of a tag.</summary>
    private void AfterTag(char sign, bool trimNewline)
    {
        var start = _at;
        if (sign == '-')
        {
            while (_at < _source.Length && JinjaText.IsSpace(_source[_at]))
            {
                _at++;
            }
        }
        else if (trimNewline && sign != '+' && _at < _source.Length && _source[_at] == '\n')
        {
            _at++;
        }

        CountLines(start, _at - start);
        _lineStarts = _at > start && _source[_at - 1] == '\n';
    }

    private void Tag(JinjaTokenKind begin, string opening)
    {
        Add(begin, opening);
        var print = begin == JinjaTokenKind.PrintBegin;
        var closing = print ? "}}" : "%}";
        var firstLine = _line;
        var depth = 0;
        while (true)
        {
            while (_at < _source.Length && JinjaText.IsSpace(_source[_at]))
            {
                _line += _source[_at++] == '\n' ? 1 : 0;
            }

            if (_at >= _source.Length)
            {
                throw new JinjaException($"the '{opening}' has no '{closing}'", firstLine);
            }

            var rest = _source.AsSpan(_at);
            var sign = rest[0] == '-' || (rest[0] == '+' && !print) ? rest[0] : '\0';
            if (depth == 0 && rest[(sign == '\0' ? 0 : 1)..].StartsWith(closing))
            {
                Add(print ? JinjaTokenKind.PrintEnd : JinjaTokenKind.BlockEnd, closing);
                _at += (sign == '\0' ? 0 : 1) + 2;
                AfterTag(sign, trimNewline: !print);
                return;
            }

            depth += Expression(rest);
        }
    }

    /// <summary>One token inside a tag; returns the change in open brackets.</summary>
    private int Expression(ReadOnlySpan<char> rest)
    {
        var c = rest[0];
        if (c is '\'' or '"')
        {
            String(c);
            return 0;
        }

        if (char.IsAsciiDigit(c))
        {
            Number(rest);
            return 0;
        }

        var length = 0;
        while (length < rest.Length && (char.IsLetterOrDigit(rest[length]) || rest[length] == '_'))
        {
            length++;
        }

        if (length > 0)
        {
            Add(JinjaTokenKind.Name, rest[..length].ToString());
            _at += length;
            return 0;
        }

        foreach (var op in s_operators)
        {
            if (rest.StartsWith(op))
            {
                Add(JinjaTokenKind.Operator, op);
                _at += op.Length;
                return op is "(" or "[" or "{" ? 1 : op is ")" or "]" or "}" ? -1 : 0;
            }
        }

        throw new JinjaException($"the character '{c}' is not expected inside a tag", _line);
    }

    private void Number(ReadOnlySpan<char> rest)
    {
        var length = 0;
        var whole = true;
        while (length < rest.Length)
        {
            var c = rest[length];
            var point = c == '.' && whole && length + 1 < rest.Length && char.IsAsciiDigit(rest[length + 1]);
            if (!char.IsAsciiDigit(c) && !point)
            {
                break;
            }

            whole &= !point;
            length++;
        }

        if (length < rest.Length && (char.IsLetterOrDigit(rest[length]) || rest[length] == '_'))
        {
            throw new JinjaException(
                $"the number that begins with '{rest[..(length + 1)]}' is written in a form that is not supported", _line);
        }

        Add(whole ? JinjaTokenKind.Integer : JinjaTokenKind.Float, rest[..length].ToString());
        _at += length;
    }

    private void String(char quote)
    {
        var firstLine = _line;
        var text = new StringBuilder();
        for (_at++; _at < _source.Length && _source[_at] != quote;)
        {
            var c = _source[_at++];
            _line += c == '\n' ? 1 : 0;
            if (c != '\\' || _at >= _source.Length)
            {
                text.Append(c);
                continue;
            }

            Escape(text);
        }

        if (_at >= _source.Length)
        {
            throw new JinjaException($"the string has no closing {quote}", firstLine);
        }

        _at++;
        _tokens.Add(new JinjaToken(JinjaTokenKind.String, text.ToString(), firstLine));
    }

    /// <summary>Python's escapes; an unknown one stays as written.</summary>
    private void Escape(StringBuilder text)
    {
        var c = _source[_at++];
        switch (c)
        {
            case 'n': text.Append('\n'); break;
            case 't': text.Append('\t'); break;
            case 'r': text.Append('\r'); break;
            case 'a': text.Append('\a'); break;
            case 'b': text.Append('\b'); break;
            case 'f': text.Append('\f'); break;
            case 'v': text.Append('\v'); break;
            case '\\' or '\'' or '"': text.Append(c); break;
            case '\n': _line++; break;
            case 'x': Hex(text, 2); break;
            case 'u': Hex(text, 4); break;
            case 'U': Hex(text, 8); break;
            case 'N': throw new JinjaException("the escape '\\N' is not supported", _line);
            case >= '0' and <= '7':
                var value = c - '0';
                for (var i = 0; i < 2 && _at < _source.Length && _source[_at] is >= '0' and <= '7'; i++)
                {
                    value = (value * 8) + _source[_at++] - '0';
                }

                text.Append((char)value);
                break;
            default: text.Append('\\').Append(c); break;
        }
    }

    private void Hex(StringBuilder text, int digits)
    {
        if (_at + digits > _source.Length
            || !uint.TryParse(_source.AsSpan(_at, digits), NumberStyles.AllowHexSpecifier, null, out var value) || value > 0x10FFFF)
        {
            throw new JinjaException($"the escape '\\{_source[_at - 1]}' needs {digits} hexadecimal digits of a character", _line);
        }

        _at += digits;
        if (value < 0x10000)
        {
            text.Append((char)value);
        }
        else
        {
            text.Append(char.ConvertFromUtf32((int)value));
        }
    }

    private void Add(JinjaTokenKind kind, string text) => _tokens.Add(new JinjaToken(kind, text, _line));
}
