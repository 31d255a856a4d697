using System.Globalization;

namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// Builds a template's statements. Everything it accepts can be run: tags, filters, tests, methods and functions outside the subset are
/// refused here, by name and line.
/// </summary>
internal sealed class JinjaParser
{
    private const int MostNesting = 200;

    private static readonly string[] s_functions = ["namespace", "raise_exception", "range", "dict"];
    private static readonly string[] s_mapMethods =
        ["items", "keys", "values", "get", "pop", "update", "copy", "clear", "setdefault", "popitem", "fromkeys"];

    private readonly List<JinjaToken> _tokens;
    private readonly HashSet<string> _macros = new(StringComparer.Ordinal);
    private readonly List<(string Name, int Line)> _called = [];
    private int _at;
    private int _depth;
    private int _loops;

    private JinjaParser(List<JinjaToken> tokens) => _tokens = tokens;

    private JinjaToken Current => _tokens[_at];

    /// <summary>The statements of <paramref name="source"/>.</summary>
    public static List<JinjaStatement> Run(string source)
    {
        var parser = new JinjaParser(JinjaLexer.Run(source));
        var body = parser.Body(out var end, "");
        if (end.Length > 0)
        {
            throw parser.Error($"'{end}' closes nothing");
        }

        foreach (var (name, line) in parser._called)
        {
            if (!parser._macros.Contains(name))
            {
                throw new JinjaException(
                    $"the function '{name}' is not supported; supported are {string.Join(", ", s_functions)} and macros", line);
            }
        }

        return body;
    }

    /// <summary>Statements up to a tag that begins with one of <paramref name="ends"/>, which is consumed up to its name.</summary>
    private List<JinjaStatement> Body(out string end, params ReadOnlySpan<string> ends)
    {
        Enter();
        var body = new List<JinjaStatement>();
        while (true)
        {
            var token = Current;
            switch (token.Kind)
            {
                case JinjaTokenKind.Data:
                    _at++;
                    body.Add(new JinjaData(token.Text) { Line = token.Line });
                    break;
                case JinjaTokenKind.PrintBegin:
                    _at++;
                    body.Add(new JinjaPrint(TupleOr()) { Line = token.Line });
                    Take(JinjaTokenKind.PrintEnd, "}}");
                    break;
                case JinjaTokenKind.BlockBegin:
                    _at++;
                    var name = Take(JinjaTokenKind.Name, "a tag").Text;
                    if (ends.Contains(name))
                    {
                        end = name;
                        _depth--;
                        return body;
                    }

                    body.Add(Statement(name, token.Line));
                    break;
                default:
                    end = ends.Contains("") ? "" : throw Error($"the template ends before '{ends[^1]}'");
                    _depth--;
                    return body;
            }
        }
    }

    private JinjaStatement Statement(string name, int line)
    {
        switch (name)
        {
            case "if": return If(line);
            case "for": return For(line);
            case "set": return Set(line);
            case "macro": return Macro(line);
            case "break" or "continue" when _loops > 0:
                CloseBlock();
                return new JinjaJump(name == "break" ? JinjaSignal.Break : JinjaSignal.Continue) { Line = line };
            case "break" or "continue": throw new JinjaException($"'{name}' stands outside a loop", line);
            case "generation":
                CloseBlock();
                var body = Body(out _, "endgeneration");
                CloseBlock();
                return new JinjaGroup(body) { Line = line };
            default:
                throw new JinjaException(
                    name.StartsWith("end", StringComparison.Ordinal) || name is "else" or "elif" ? $"'{name}' closes nothing"
                    : $"the tag '{name}' is not supported; supported are if, for, set, macro, break, continue, generation and raw", line);
        }
    }

    private JinjaIf If(int line)
    {
        var branches = new List<(JinjaExpression?, List<JinjaStatement>)>();
        var condition = Expression();
        while (true)
        {
            CloseBlock();
            var body = condition is null ? Body(out var end, "endif") : Body(out end, "elif", "else", "endif");
            branches.Add((condition, body));
            if (end == "endif")
            {
                CloseBlock();
                return new JinjaIf(branches) { Line = line };
            }

            condition = end == "elif" ? Expression() : null;
        }
    }

    private JinjaFor For(int line)
    {
        var targets = Targets();
        if (!IsName("in"))
        {
            throw Error("'for' needs 'in' after its names");
        }

        _at++;
        var items = TupleOr(conditional: false);
        JinjaExpression? filter = null;
        if (IsName("if"))
        {
            _at++;
            filter = Expression();
        }

        if (IsName("recursive"))
        {
            throw Error("a recursive 'for' is not supported; write a macro that calls itself");
        }

        CloseBlock();
        _loops++;
        var body = Body(out var end, "else", "endfor");
        _loops--;
        List<JinjaStatement> otherwise = [];
        if (end == "else")
        {
            CloseBlock();
            otherwise = Body(out _, "endfor");
        }

        CloseBlock();
        return new JinjaFor(targets, items, filter, body, otherwise) { Line = line };
    }

    private JinjaSet Set(int line)
    {
        var targets = Targets();
        string? member = null;
        if (targets.Count == 1 && TakeOperator("."))
        {
            member = Take(JinjaTokenKind.Name, "a member's name").Text;
        }

        if (TakeOperator("="))
        {
            var value = TupleOr();
            CloseBlock();
            return new JinjaSet(targets, member, value, []) { Line = line };
        }

        if (targets.Count > 1 || IsOperator("|"))
        {
            throw Error("this form of 'set' is not supported; write 'set name = value'");
        }

        CloseBlock();
        var body = Body(out _, "endset");
        CloseBlock();
        return new JinjaSet(targets, member, null, body) { Line = line };
    }

    private JinjaMacro Macro(int line)
    {
        var name = Take(JinjaTokenKind.Name, "the macro's name").Text;
        TakeOperatorOrFail("(");
        var parameters = new List<(string, JinjaExpression?)>();
        while (!TakeOperator(")"))
        {
            if (parameters.Count > 0)
            {
                TakeOperatorOrFail(",");
            }

            var parameter = Take(JinjaTokenKind.Name, "a parameter's name").Text;
            parameters.Add((parameter, TakeOperator("=") ? Expression() : null));
        }

        CloseBlock();
        var loops = _loops;
        _loops = 0;
        var body = Body(out _, "endmacro");
        _loops = loops;
        CloseBlock();
        _macros.Add(name);
        return new JinjaMacro(name, parameters, body) { Line = line };
    }

    private List<string> Targets()
    {
        var parenthesis = TakeOperator("(");
        var names = new List<string>();
        do
        {
            var name = Take(JinjaTokenKind.Name, "a name").Text;
            names.Add(IsReserved(name) ? throw Error($"'{name}' cannot be set") : name);
        }
        while (TakeOperator(",") && Current.Kind == JinjaTokenKind.Name && !IsName("in"));

        if (parenthesis)
        {
            TakeOperatorOrFail(")");
        }

        return names;
    }

    /// <summary>An expression, or several with commas between: a tuple.</summary>
    private JinjaExpression TupleOr(bool conditional = true)
    {
        var depth = _depth;
        var first = conditional ? Expression() : Or();
        if (!IsOperator(","))
        {
            _depth = depth;
            return first;
        }

        var items = new List<JinjaExpression> { first };
        while (TakeOperator(",") && Current.Kind is not (JinjaTokenKind.BlockEnd or JinjaTokenKind.PrintEnd) && !IsOperator(")"))
        {
            items.Add(conditional ? Expression() : Or());
            _depth = depth;
        }

        return new JinjaList(items);
    }

    private JinjaExpression Expression()
    {
        var depth = _depth;
        Enter();
        var value = Or();
        while (IsName("if"))
        {
            Enter();
            _at++;
            var condition = Or();
            JinjaExpression? otherwise = null;
            if (IsName("else"))
            {
                _at++;
                otherwise = Expression();
            }

            value = new JinjaConditional(condition, value, otherwise);
        }

        _depth = depth;
        return value;
    }

    private JinjaExpression Or()
    {
        var value = And();
        while (IsName("or"))
        {
            Enter();
            _at++;
            value = new JinjaLogic(value, And(), and: false);
        }

        return value;
    }

    private JinjaExpression And()
    {
        var value = Not();
        while (IsName("and"))
        {
            Enter();
            _at++;
            value = new JinjaLogic(value, Not(), and: true);
        }

        return value;
    }

    private JinjaExpression Not()
    {
        if (!IsName("not"))
        {
            return Comparison();
        }

        Enter();
        _at++;
        return new JinjaNot(Not());
    }

    private JinjaExpression Comparison()
    {
        var first = Sum();
        var rest = new List<(string, JinjaExpression)>();
        while (true)
        {
            if (Current is { Kind: JinjaTokenKind.Operator, Text: "==" or "!=" or "<" or "<=" or ">" or ">=" })
            {
                var op = Current.Text;
                _at++;
                rest.Add((op, Sum()));
            }
            else if (IsName("in"))
            {
                _at++;
                rest.Add(("in", Sum()));
            }
            else if (IsName("not") && _tokens[_at + 1] is { Kind: JinjaTokenKind.Name, Text: "in" })
            {
                _at += 2;
                rest.Add(("not in", Sum()));
            }
            else
            {
                return rest.Count == 0 ? first : new JinjaComparison(first, rest);
            }
        }
    }

    private JinjaExpression Sum()
    {
        var value = Concatenation();
        while (Current is { Kind: JinjaTokenKind.Operator, Text: "+" or "-" })
        {
            Enter();
            var op = Current.Text;
            _at++;
            value = new JinjaArithmetic(op, value, Concatenation());
        }

        return value;
    }

    private JinjaExpression Concatenation()
    {
        var first = Product();
        if (!IsOperator("~"))
        {
            return first;
        }

        var parts = new List<JinjaExpression> { first };
        while (TakeOperator("~"))
        {
            parts.Add(Product());
        }

        return new JinjaConcatenation(parts);
    }

    private JinjaExpression Product()
    {
        var value = Unary(filters: true);
        while (Current is { Kind: JinjaTokenKind.Operator, Text: "*" or "/" or "//" or "%" or "**" })
        {
            Enter();
            var op = Current.Text;
            if (op == "**")
            {
                throw Error("the operator '**' is not supported");
            }

            _at++;
            value = new JinjaArithmetic(op, value, Unary(filters: true));
        }

        return value;
    }

    private JinjaExpression Unary(bool filters)
    {
        JinjaExpression value;
        if (IsOperator("-") || IsOperator("+"))
        {
            Enter();
            var negative = Current.Text == "-";
            _at++;
            value = Unary(filters: false);
            value = negative ? new JinjaNegative(value) : value;
        }
        else
        {
            value = Postfix(Primary());
        }

        return filters ? FiltersAndTests(value) : value;
    }

    private JinjaExpression Primary()
    {
        var token = Current;
        _at++;
        switch (token.Kind)
        {
            case JinjaTokenKind.Name:
                return token.Text switch
                {
                    "true" or "True" => new JinjaLiteral(true),
                    "false" or "False" => new JinjaLiteral(false),
                    "none" or "None" => new JinjaLiteral(null),
                    "and" or "or" or "in" or "is" or "if" or "else" or "elif" or "for" => throw Unexpected(token),
                    _ => new JinjaName(token.Text),
                };
            case JinjaTokenKind.String:
                var text = token.Text;
                while (Current.Kind == JinjaTokenKind.String)
                {
                    text += Current.Text;
                    _at++;
                }

                return new JinjaLiteral(text);
            case JinjaTokenKind.Integer:
                return new JinjaLiteral(long.TryParse(token.Text, NumberStyles.None, CultureInfo.InvariantCulture, out var whole) ? whole
                    : throw new JinjaException($"the number {token.Text} does not fit in 64 bits", token.Line));
            case JinjaTokenKind.Float:
                return new JinjaLiteral(double.Parse(token.Text, CultureInfo.InvariantCulture));
            case JinjaTokenKind.Operator when token.Text == "(":
                if (TakeOperator(")"))
                {
                    return new JinjaList([]);
                }

                var inner = TupleOr();
                TakeOperatorOrFail(")");
                return inner;
            case JinjaTokenKind.Operator when token.Text == "[":
                return new JinjaList(UpTo("]"));
            case JinjaTokenKind.Operator when token.Text == "{":
                return Map();
            default:
                throw Unexpected(token);
        }
    }

    private List<JinjaExpression> UpTo(string close)
    {
        var items = new List<JinjaExpression>();
        while (!TakeOperator(close))
        {
            if (items.Count > 0)
            {
                TakeOperatorOrFail(",");
                if (TakeOperator(close))
                {
                    break;
                }
            }

            items.Add(Expression());
        }

        return items;
    }

    private JinjaMap Map()
    {
        var entries = new List<(JinjaExpression, JinjaExpression)>();
        while (!TakeOperator("}"))
        {
            if (entries.Count > 0)
            {
                TakeOperatorOrFail(",");
                if (TakeOperator("}"))
                {
                    break;
                }
            }

            var key = Expression();
            TakeOperatorOrFail(":");
            entries.Add((key, Expression()));
        }

        return new JinjaMap(entries);
    }

    private JinjaExpression Postfix(JinjaExpression value)
    {
        while (true)
        {
            if (TakeOperator("."))
            {
                Enter();
                if (Current.Kind == JinjaTokenKind.Integer)
                {
                    value = new JinjaItem(value, new JinjaLiteral(long.Parse(Current.Text, CultureInfo.InvariantCulture)));
                    _at++;
                    continue;
                }

                var token = Take(JinjaTokenKind.Name, "a member's name");
                value = IsOperator("(") ? Method(value, token) : new JinjaMember(value, NotAMethod(token));
            }
            else if (TakeOperator("["))
            {
                Enter();
                value = Subscript(value);
            }
            else if (IsOperator("("))
            {
                Enter();
                value = value is JinjaName name ? Call(name.Name) : throw Error("only names and methods can be called");
            }
            else
            {
                return value;
            }
        }
    }

    private static string NotAMethod(JinjaToken token) => !s_mapMethods.Contains(token.Text) ? token.Text
        : throw new JinjaException(
            $"'.{token.Text}' without a call is Python's method; for a member of that name write ['{token.Text}']", token.Line);

    private JinjaExpression Subscript(JinjaExpression value)
    {
        JinjaExpression? start = IsOperator(":") ? null : Expression();
        if (start is not null && TakeOperator("]"))
        {
            return new JinjaItem(value, start);
        }

        TakeOperatorOrFail(":");
        JinjaExpression? stop = IsOperator(":") || IsOperator("]") ? null : Expression();
        JinjaExpression? step = null;
        if (TakeOperator(":") && !IsOperator("]"))
        {
            step = Expression();
        }

        TakeOperatorOrFail("]");
        return new JinjaSlice(value, start, stop, step);
    }

    private JinjaMethod Method(JinjaExpression target, JinjaToken token)
    {
        if (!JinjaMethods.Known.TryGetValue(token.Text, out var known))
        {
            throw new JinjaException(
                $"the method '{token.Text}' is not supported; supported are {string.Join(", ", JinjaMethods.Known.Keys)}", token.Line);
        }

        var arguments = Arguments();
        if (arguments.ByName.Count > 0 || arguments.Count < known.Fewest || arguments.Count > known.Most)
        {
            throw new JinjaException($"the method '{token.Text}' is not supported with these arguments", token.Line);
        }

        return new JinjaMethod(target, token.Text, arguments);
    }

    private JinjaExpression Call(string name)
    {
        var line = Current.Line;
        var arguments = Arguments();
        if (!s_functions.Contains(name))
        {
            _called.Add((name, line));
            return new JinjaMacroCall(name, arguments);
        }

        var (fewest, most) = name switch { "raise_exception" => (1, 1), "range" => (1, 3), _ => (0, 0) };
        if (arguments.Count < fewest || arguments.Count > most || (most > 0 && arguments.ByName.Count > 0))
        {
            throw new JinjaException($"the function '{name}' is not supported with these arguments", line);
        }

        return new JinjaCall(name, arguments);
    }

    private JinjaArguments Arguments()
    {
        TakeOperatorOrFail("(");
        var byPosition = new List<JinjaExpression>();
        var byName = new List<(string, JinjaExpression)>();
        while (!TakeOperator(")"))
        {
            if (byPosition.Count + byName.Count > 0)
            {
                TakeOperatorOrFail(",");
                if (TakeOperator(")"))
                {
                    break;
                }
            }

            if (Current.Kind == JinjaTokenKind.Name && _tokens[_at + 1] is { Kind: JinjaTokenKind.Operator, Text: "=" })
            {
                var name = Current.Text;
                _at += 2;
                byName.Add(!byName.Exists(a => a.Item1 == name) ? (name, Expression())
                    : throw Error($"the argument '{name}' is given twice"));
            }
            else if (byName.Count > 0)
            {
                throw Error("an argument without a name follows one with a name");
            }
            else
            {
                byPosition.Add(Expression());
            }
        }

        return new JinjaArguments(byPosition, byName);
    }

    private JinjaExpression FiltersAndTests(JinjaExpression value)
    {
        while (true)
        {
            if (TakeOperator("|"))
            {
                Enter();
                value = Filter(value);
            }
            else if (IsName("is"))
            {
                Enter();
                _at++;
                value = Test(value);
            }
            else
            {
                return value;
            }
        }
    }

    private JinjaFilter Filter(JinjaExpression value)
    {
        var token = Take(JinjaTokenKind.Name, "a filter's name");
        if (!JinjaFilters.Filters.TryGetValue(token.Text, out var known))
        {
            throw new JinjaException(
                $"the filter '{token.Text}' is not supported; supported are {string.Join(", ", JinjaFilters.Filters.Keys)}", token.Line);
        }

        var arguments = IsOperator("(") ? Arguments() : JinjaArguments.None;
        var fewest = token.Text switch { "replace" => 2, "selectattr" or "rejectattr" => 1, _ => 0 };
        if (arguments.Count < fewest || arguments.Count > known.Most || arguments.ByName.Any(a => !known.Names.Contains(a.Name))
            || (token.Text == "map" && arguments.ByName.Count == 0))
        {
            throw new JinjaException($"the filter '{token.Text}' is not supported with these arguments", token.Line);
        }

        return new JinjaFilter(value, token.Text, arguments);
    }

    private JinjaTest Test(JinjaExpression value)
    {
        var negated = IsName("not");
        _at += negated ? 1 : 0;
        var token = Take(JinjaTokenKind.Name, "a test's name");
        var name = token.Text switch { "None" => "none", "True" => "true", "False" => "false", _ => token.Text };
        if (!JinjaFilters.Tests.TryGetValue(name, out var takesArgument))
        {
            throw new JinjaException(
                $"the test '{token.Text}' is not supported; supported are {string.Join(", ", JinjaFilters.Tests.Keys)}", token.Line);
        }

        return new JinjaTest(value, name, takesArgument ? Postfix(Primary()) : null, negated);
    }

    private static bool IsReserved(string name) =>
        name is "and" or "or" or "not" or "in" or "is" or "if" or "else" or "elif" or "for" or "true" or "false" or "none"
            or "True" or "False" or "None" or "loop";

    private bool IsName(string name) => Current is { Kind: JinjaTokenKind.Name } token && token.Text == name;

    private bool IsOperator(string op) => Current is { Kind: JinjaTokenKind.Operator } token && token.Text == op;

    private bool TakeOperator(string op)
    {
        if (!IsOperator(op))
        {
            return false;
        }

        _at++;
        return true;
    }

    private void TakeOperatorOrFail(string op)
    {
        if (!TakeOperator(op))
        {
            throw Unexpected(Current, $"'{op}'");
        }
    }

    private void CloseBlock() => Take(JinjaTokenKind.BlockEnd, "'%}'");

    private JinjaToken Take(JinjaTokenKind kind, string wanted)
    {
        var token = Current;
        if (token.Kind != kind)
        {
            throw Unexpected(token, wanted);
        }

        _at++;
        return token;
    }

    private void Enter()
    {
        if (++_depth > MostNesting)
        {
            throw Error($"the template nests more than {MostNesting} levels deep here");
        }
    }

    private static JinjaException Unexpected(JinjaToken token, string? wanted = null) =>
        new($"{(token.Kind == JinjaTokenKind.End ? "the end" : $"'{token.Text}'")} is not expected here"
            + (wanted is null ? "" : $", {wanted} is"), token.Line);

    private JinjaException Error(string message) => new(message, Current.Line);
}
