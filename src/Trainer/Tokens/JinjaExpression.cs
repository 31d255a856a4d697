using System.Text;

namespace Z1Coder.Trainer.Tokens;

/// <summary>A piece of a template that has a value.</summary>
internal abstract class JinjaExpression
{
    public abstract object? Evaluate(JinjaFrame frame);
}

internal sealed class JinjaLiteral(object? value) : JinjaExpression
{
    public object? Value { get; } = value;

    public override object? Evaluate(JinjaFrame frame) => Value;
}

internal sealed class JinjaName(string name) : JinjaExpression
{
    public string Name { get; } = name;

    public override object? Evaluate(JinjaFrame frame) => frame.Find(Name);
}

/// <summary>A list or a tuple: templates cannot change either, so they are the same here.</summary>
internal sealed class JinjaList(List<JinjaExpression> items) : JinjaExpression
{
    public List<JinjaExpression> Items { get; } = items;

    public override object? Evaluate(JinjaFrame frame) => Items.ConvertAll(item => item.Evaluate(frame));
}

internal sealed class JinjaMap(List<(JinjaExpression Key, JinjaExpression Value)> entries) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame)
    {
        var map = new Dictionary<string, object?>(StringComparer.Ordinal);
        foreach (var (key, value) in entries)
        {
            var name = key.Evaluate(frame);
            var text = name as string ?? throw new JinjaException($"a mapping's key is {JinjaValue.Name(name)}, a string is needed");
            map[text] = value.Evaluate(frame);
        }

        return map;
    }
}

internal sealed class JinjaMember(JinjaExpression target, string name) : JinjaExpression
{
    public JinjaExpression Target { get; } = target;

    public string Name { get; } = name;

    public override object? Evaluate(JinjaFrame frame) => JinjaValue.Member(Target.Evaluate(frame), Name);
}

internal sealed class JinjaItem(JinjaExpression target, JinjaExpression index) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame) => JinjaValue.Item(target.Evaluate(frame), index.Evaluate(frame));
}

internal sealed class JinjaSlice(JinjaExpression target, JinjaExpression? start, JinjaExpression? stop, JinjaExpression? step)
    : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame) =>
        JinjaValue.Slice(target.Evaluate(frame), start?.Evaluate(frame), stop?.Evaluate(frame), step?.Evaluate(frame));
}

/// <summary>Arguments as written: by position, then by name.</summary>
internal sealed class JinjaArguments(List<JinjaExpression> byPosition, List<(string Name, JinjaExpression Value)> byName)
{
    public static JinjaArguments None { get; } = new([], []);

    public int Count => byPosition.Count;

    public IReadOnlyList<(string Name, JinjaExpression Value)> ByName => byName;

    public List<object?> Values(JinjaFrame frame) => byPosition.ConvertAll(value => value.Evaluate(frame));
}

internal sealed class JinjaFilter(JinjaExpression target, string name, JinjaArguments arguments) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame) =>
        JinjaFilters.Apply(name, target.Evaluate(frame), arguments.Values(frame),
            arguments.ByName.ToDictionary(a => a.Name, a => a.Value.Evaluate(frame), StringComparer.Ordinal));
}

internal sealed class JinjaTest(JinjaExpression target, string name, JinjaExpression? argument, bool negated) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame) =>
        JinjaFilters.Test(name, target.Evaluate(frame), argument?.Evaluate(frame)) != negated;
}

internal sealed class JinjaMethod(JinjaExpression target, string name, JinjaArguments arguments) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame) => JinjaMethods.Call(target.Evaluate(frame), name, arguments.Values(frame));
}

/// <summary>A call of one of the four global functions.</summary>
internal sealed class JinjaCall(string name, JinjaArguments arguments) : JinjaExpression
{
    private const long LongestRange = 100_000;

    public override object? Evaluate(JinjaFrame frame)
    {
        var values = arguments.Values(frame);
        switch (name)
        {
            case "raise_exception":
                throw new JinjaException("the template refuses these messages: " + JinjaText.Str(values[0]));
            case "namespace":
                var space = new JinjaNamespace();
                foreach (var (member, value) in arguments.ByName)
                {
                    space.Members[member] = value.Evaluate(frame);
                }

                return space;
            case "dict":
                return arguments.ByName.ToDictionary(a => a.Name, a => a.Value.Evaluate(frame), StringComparer.Ordinal);
            default:
                var range = Range(values);
                frame.Run.Spend(range.Count);
                return range;
        }
    }

    private static List<object?> Range(List<object?> values)
    {
        var start = values.Count > 1 ? JinjaValue.ToLong(values[0]) : 0;
        var stop = JinjaValue.ToLong(values[values.Count > 1 ? 1 : 0]);
        var step = values.Count > 2 ? JinjaValue.ToLong(values[2]) : 1;
        var result = new List<object?>();
        for (var i = start; step > 0 ? i < stop : i > stop; i += step)
        {
            if (step == 0 || result.Count == LongestRange || Math.Abs((decimal)step) + Math.Abs((decimal)i) > long.MaxValue)
            {
                throw new JinjaException($"range({start}, {stop}, {step}) is empty of sense or longer than {LongestRange}");
            }

            result.Add(i);
        }

        return result;
    }
}

internal sealed class JinjaMacroCall(string name, JinjaArguments arguments) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame)
    {
        if (!frame.Run.Macros.TryGetValue(name, out var macro))
        {
            throw new JinjaException($"the macro '{name}' is called before it is defined");
        }

        var values = arguments.Values(frame);
        var inner = new JinjaFrame(frame.Run, frame.Run.Root);
        for (var i = 0; i < macro.Parameters.Count; i++)
        {
            var (parameter, byDefault) = macro.Parameters[i];
            var named = arguments.ByName.FirstOrDefault(a => a.Name == parameter).Value;
            inner.Set(parameter, i < values.Count ? values[i]
                : named is not null ? named.Evaluate(frame)
                : byDefault is not null ? byDefault.Evaluate(inner) : new JinjaUndefined(parameter));
        }

        if (values.Count > macro.Parameters.Count || arguments.ByName.Any(a => !macro.Parameters.Exists(p => p.Name == a.Name)))
        {
            throw new JinjaException($"the macro '{name}' has other parameters");
        }

        var (output, line) = (new StringBuilder(), frame.Run.Line);
        frame.Run.EnterMacro();
        JinjaStatement.Execute(macro.Body, inner, output);
        frame.Run.LeaveMacro();
        frame.Run.Line = line;
        return output.ToString();
    }
}

internal sealed class JinjaNot(JinjaExpression operand) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame) => !JinjaValue.IsTrue(operand.Evaluate(frame));
}

internal sealed class JinjaNegative(JinjaExpression operand) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame) => JinjaValue.Negate(operand.Evaluate(frame));
}

/// <summary>"and" and "or": the operand that decides is the value, as in Python.</summary>
internal sealed class JinjaLogic(JinjaExpression left, JinjaExpression right, bool and) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame)
    {
        var value = left.Evaluate(frame);
        return JinjaValue.IsTrue(value) == and ? right.Evaluate(frame) : value;
    }
}

internal sealed class JinjaConditional(JinjaExpression condition, JinjaExpression then, JinjaExpression? otherwise) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame) =>
        JinjaValue.IsTrue(condition.Evaluate(frame)) ? then.Evaluate(frame)
            : otherwise is null ? new JinjaUndefined("an if without else") : otherwise.Evaluate(frame);
}

internal sealed class JinjaConcatenation(List<JinjaExpression> parts) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame) => string.Concat(parts.Select(part => JinjaText.Str(part.Evaluate(frame))));
}

internal sealed class JinjaArithmetic(string op, JinjaExpression left, JinjaExpression right) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame)
    {
        var (a, b) = (left.Evaluate(frame), right.Evaluate(frame));
        return op == "+" ? JinjaValue.Add(a, b) : JinjaValue.Arithmetic(op, a, b);
    }
}

/// <summary>a &lt; b &lt; c …: true when each neighbouring pair compares.</summary>
internal sealed class JinjaComparison(JinjaExpression first, List<(string Op, JinjaExpression Operand)> rest) : JinjaExpression
{
    public override object? Evaluate(JinjaFrame frame)
    {
        var left = first.Evaluate(frame);
        foreach (var (op, operand) in rest)
        {
            var right = operand.Evaluate(frame);
            var holds = op switch
            {
                "==" => JinjaValue.AreEqual(left, right),
                "!=" => !JinjaValue.AreEqual(left, right),
                "in" => JinjaValue.Contains(right, left),
                "not in" => !JinjaValue.Contains(right, left),
                "<" => JinjaValue.Compare(left, right) < 0,
                "<=" => JinjaValue.Compare(left, right) <= 0,
                ">" => JinjaValue.Compare(left, right) > 0,
                _ => JinjaValue.Compare(left, right) >= 0,
            };
            if (!holds)
            {
                return false;
            }

            left = right;
        }

        return true;
    }
}
