using System.Text;

namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>
/// The scripted teacher: no model, a template. Its reasoning quotes each clause of the problem in the words of the question and
/// puts the Python expression right behind it; the program then copies those expressions. Quoting matters: a model of a few million
/// parameters learns to copy long spans first, and the constants come along. What the teacher writes is checked by running it.
/// </summary>
internal static class NanoTeacher
{
    /// <summary>Reasoning, then the program in a fence.</summary>
    public static string Respond(NanoTask task, bool workedExample = false)
    {
        var text = new StringBuilder();
        Reason(text, task.Base);
        if (workedExample && task.Base.Family == NanoFamily.List)
        {
            WorkThrough(text, task.Base);
        }

        if (task.Call is { } call)
        {
            // Not "Plan for" again: the word before a name is what a model looks it up by, and that one has led to the first name.
            text.Append($"Then {call.Name}({call.Form.Parameters}), calling {task.Base.Name}:\n");
            text.Append($"- {call.Say(task.Base.Name)}: {call.Code(task.Base.Name)}\n");
        }

        return text.Append('\n').Append(Answer(task)).ToString();
    }

    /// <summary>The program in a fence, without a word of reasoning: the ablation.</summary>
    public static string Answer(NanoTask task) => $"```python\n{Program(task)}```";

    /// <summary>The program, ending with a line break.</summary>
    public static string Program(NanoTask task)
    {
        var text = new StringBuilder();
        var p = task.Base;
        text.Append($"def {p.Name}({p.Parameter}):\n");
        switch (p.Family)
        {
            case NanoFamily.Choice:
                text.Append($"    if {p.First.Code}:\n        return {p.Second.Code}\n    return {p.Third.Code}\n");
                break;
            case NanoFamily.Text:
                text.Append("    cs = list(s)\n");
                Lines(text, p, "cs", "ch");
                break;
            default:
                if (p.Family == NanoFamily.Range)
                {
                    text.Append("    xs = range(1, n + 1)\n");
                }

                Lines(text, p, "xs", "x");
                break;
        }

        if (task.Call is { } call)
        {
            text.Append($"\ndef {call.Name}({call.Form.Parameters}):\n    return {call.Code(p.Name)}\n");
        }

        return text.ToString();
    }

    private static void Lines(StringBuilder text, NanoProblem p, string all, string one)
    {
        if (!p.First.Clause.IsNone)
        {
            text.Append($"    {all} = [{one} for {one} in {all} if {p.First.Code}]\n");
        }

        if (!p.Second.Clause.IsNone)
        {
            text.Append($"    {all} = [{p.Second.Code} for {one} in {all}]\n");
        }

        text.Append($"    return {p.Third.Code}\n");
    }

    private static void Reason(StringBuilder text, NanoProblem p)
    {
        text.Append($"Plan for {p.Name}({p.Parameter}):\n");
        foreach (var (words, code) in NanoQuestion.Clauses(p))
        {
            text.Append($"- {words}: {code}\n");
        }
    }

    // Two numbers around the filter's constant, followed through the steps.
    private static void WorkThrough(StringBuilder text, NanoProblem p)
    {
        var c = p.First.Clause.HasConstant ? p.First.Constant : 4;
        long[] xs = [c, c + 1, -3];
        var kept = xs.Where(x => NanoSemantics.Holds(p.First, x)).ToArray();
        var mapped = kept.Select(x => NanoSemantics.Apply(p.Second, x)).ToArray();
        text.Append($"- try {new NanoValue(xs).Literal}: keep {new NanoValue(kept).Literal}, get {new NanoValue(mapped).Literal}, ");
        text.Append($"return {p.Fold(xs)}\n");
    }
}
