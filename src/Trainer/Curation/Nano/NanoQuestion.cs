namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>Puts a problem into words, as a user would ask it.</summary>
internal static class NanoQuestion
{
    /// <summary>Ways to word one problem; a problem's Wording is below this.</summary>
    public const int Wordings = 3;

    public static string Of(NanoTask task)
    {
        var question = Plain(task.Base);
        if (task.Call is not { } call)
        {
            return question;
        }

        var head = $"{call.Name}({call.Form.Parameters})";
        var tail = task.Base.Wording switch
        {
            0 => $"Then use {task.Base.Name} to write {head} that returns ",
            1 => $"Next implement {head}, calling {task.Base.Name}. Return ",
            _ => $"Then define {head} with the help of {task.Base.Name}; it returns ",
        };
        return $"{question}\n{tail}{call.Say(task.Base.Name)}.";
    }

    private static string Plain(NanoProblem p)
    {
        var head = $"{p.Name}({p.Parameter})";
        if (p.Family == NanoFamily.Choice)
        {
            var (condition, yes, no) = (p.First.Say("x"), p.Second.Say("x"), p.Third.Say("x"));
            return p.Wording switch
            {
                0 => $"Write a Python function {head} for an integer x: if x is {condition}, {yes}, otherwise {no}, and return the result.",
                1 => $"Implement {head} in Python. When the integer x is {condition}, {yes}; else {no}. Return the result.",
                _ => $"Define a function {head}. Given an integer x that is {condition}, {yes}; for any other x, {no}. Return the result.",
            };
        }

        var (things, source) = p.Family switch
        {
            NanoFamily.List => ("numbers", "a list of integers xs"),
            NanoFamily.Range => ("numbers", "the integers from 1 to n"),
            _ => ("characters", "a string s"),
        };
        var steps = new List<string>();
        if (!p.First.Clause.IsNone)
        {
            steps.Add(Filter(p, things));
        }

        if (!p.Second.Clause.IsNone)
        {
            steps.Add(p.Second.Say(p.Wording == 1 ? $"every {things[..^1]}" : "each"));
        }

        var result = p.Third.Say("it");
        return p.Wording switch
        {
            0 => $"Write a Python function {head} for {source}: {string.Join(", ", steps)}, and return {result}.",
            1 => $"Implement {head} in Python. From {source}, {string.Join(", then ", steps)}. Return {result}.",
            _ => $"Define a function {head}. Given {source}, {string.Join("; ", steps)}; return {result}.",
        };
    }

    private static string Filter(NanoProblem p, string things)
    {
        var what = p.First.Say("it");
        if (p.Family == NanoFamily.Text)
        {
            return p.Wording switch
            {
                0 => $"keep the {what}",
                1 => $"take only the {what}",
                _ => $"select the {what}",
            };
        }

        return p.Wording switch
        {
            0 => $"keep the {things} that are {what}",
            1 => $"take only {things} {what}",
            _ => $"select the {things} which are {what}",
        };
    }
}
