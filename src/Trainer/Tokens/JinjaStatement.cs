using System.Text;

namespace Z1Coder.Trainer.Tokens;

/// <summary>How a statement ended.</summary>
internal enum JinjaSignal
{
    /// <summary>Go on with the next one.</summary>
    None,

    /// <summary>Leave the loop.</summary>
    Break,

    /// <summary>Go on with the loop's next item.</summary>
    Continue,
}

/// <summary>A piece of a template that prints or sets.</summary>
internal abstract class JinjaStatement
{
    public required int Line { get; init; }

    public static JinjaSignal Execute(List<JinjaStatement> body, JinjaFrame frame, StringBuilder output)
    {
        foreach (var statement in body)
        {
            frame.Run.Line = statement.Line;
            frame.Run.Step(output);
            if (statement.Execute(frame, output) is var signal and not JinjaSignal.None)
            {
                return signal;
            }
        }

        return JinjaSignal.None;
    }

    protected abstract JinjaSignal Execute(JinjaFrame frame, StringBuilder output);
}

internal sealed class JinjaData(string text) : JinjaStatement
{
    protected override JinjaSignal Execute(JinjaFrame frame, StringBuilder output)
    {
        output.Append(text);
        return JinjaSignal.None;
    }
}

internal sealed class JinjaPrint(JinjaExpression value) : JinjaStatement
{
    protected override JinjaSignal Execute(JinjaFrame frame, StringBuilder output)
    {
        output.Append(JinjaText.Str(value.Evaluate(frame)));
        return JinjaSignal.None;
    }
}

/// <summary>if, elif …, else: the last branch may have no condition.</summary>
internal sealed class JinjaIf(List<(JinjaExpression? Condition, List<JinjaStatement> Body)> branches) : JinjaStatement
{
    protected override JinjaSignal Execute(JinjaFrame frame, StringBuilder output)
    {
        foreach (var (condition, body) in branches)
        {
            if (condition is null || JinjaValue.IsTrue(condition.Evaluate(frame)))
            {
                return Execute(body, frame, output);
            }
        }

        return JinjaSignal.None;
    }
}

internal sealed class JinjaFor(
    List<string> targets, JinjaExpression items, JinjaExpression? filter, List<JinjaStatement> body, List<JinjaStatement> otherwise)
    : JinjaStatement
{
    protected override JinjaSignal Execute(JinjaFrame frame, StringBuilder output)
    {
        var inner = new JinjaFrame(frame.Run, frame);
        var list = JinjaValue.Items(items.Evaluate(frame));
        frame.Run.Spend(list.Count);
        if (filter is not null)
        {
            list = list.FindAll(item =>
            {
                JinjaSet.Unpack(targets, item, inner);
                return JinjaValue.IsTrue(filter.Evaluate(inner));
            });
        }

        if (list.Count == 0)
        {
            return Execute(otherwise, frame, output);
        }

        var loop = new JinjaLoop { Items = list };
        for (var i = 0; i < list.Count; i++)
        {
            inner.Clear();
            loop.Index = i;
            inner.Set("loop", loop);
            JinjaSet.Unpack(targets, list[i], inner);
            if (Execute(body, inner, output) == JinjaSignal.Break)
            {
                break;
            }
        }

        return JinjaSignal.None;
    }
}

/// <summary>set of names, of a namespace's member, or of a name to a block's text.</summary>
internal sealed class JinjaSet(List<string> targets, string? member, JinjaExpression? value, List<JinjaStatement> body) : JinjaStatement
{
    /// <summary>Sets one name to the value, or several to its items.</summary>
    public static void Unpack(List<string> targets, object? value, JinjaFrame frame)
    {
        if (targets.Count == 1)
        {
            frame.Set(targets[0], value);
            return;
        }

        var items = JinjaValue.Items(value);
        if (items.Count != targets.Count)
        {
            throw new JinjaException($"{items.Count} values cannot be unpacked into {targets.Count} names");
        }

        for (var i = 0; i < targets.Count; i++)
        {
            frame.Set(targets[i], items[i]);
        }
    }

    protected override JinjaSignal Execute(JinjaFrame frame, StringBuilder output)
    {
        object? result;
        if (value is not null)
        {
            result = value.Evaluate(frame);
        }
        else
        {
            var text = new StringBuilder();
            Execute(body, new JinjaFrame(frame.Run, frame), text);
            result = text.ToString();
        }

        if (member is null)
        {
            Unpack(targets, result, frame);
        }
        else if (frame.Find(targets[0]) is JinjaNamespace space)
        {
            space.Members[member] = result;
        }
        else
        {
            throw new JinjaException($"'{targets[0]}.{member}' cannot be set, because '{targets[0]}' is not a namespace");
        }

        return JinjaSignal.None;
    }
}

/// <summary>break and continue.</summary>
internal sealed class JinjaJump(JinjaSignal signal) : JinjaStatement
{
    protected override JinjaSignal Execute(JinjaFrame frame, StringBuilder output) => signal;
}

/// <summary>A block that only groups: transformers' "generation".</summary>
internal sealed class JinjaGroup(List<JinjaStatement> body) : JinjaStatement
{
    protected override JinjaSignal Execute(JinjaFrame frame, StringBuilder output) => Execute(body, frame, output);
}

internal sealed class JinjaMacro(string name, List<(string Name, JinjaExpression? Default)> parameters, List<JinjaStatement> body)
    : JinjaStatement
{
    public List<(string Name, JinjaExpression? Default)> Parameters { get; } = parameters;

    public List<JinjaStatement> Body { get; } = body;

    protected override JinjaSignal Execute(JinjaFrame frame, StringBuilder output)
    {
        frame.Run.Macros[name] = this;
        return JinjaSignal.None;
    }
}
