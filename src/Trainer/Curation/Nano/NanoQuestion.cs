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

    /// <summary>
    /// The clauses of the first function as the question words them, each with its Python expression: the teacher quotes them.
    /// </summary>
    public static List<(string Words, string Code)> Clauses(NanoProblem p)
    {
        if (p.Family == NanoFamily.Choice)
        {
            return [($"x is {p.First.Say("x")}", p.First.Code), (p.Second.Say("x"), p.Second.Code), (p.Third.Say("x"), p.Third.Code)];
        }

        var clauses = new List<(string, string)>();
        var one = p.Family == NanoFamily.Text ? "character" : "number";
        if (!p.First.Clause.IsNone)
        {
            clauses.Add((Filter(p, one), p.First.Code));
        }

        if (!p.Second.Clause.IsNone)
        {
            clauses.Add((p.Second.Say(p.Wording == 1 ? $"every {one}" : "each"), p.Second.Code));
        }

        clauses.Add(($"return {p.Third.Say("it")}", p.Third.Code));
        return clauses;
    }

    private static string Plain(NanoProblem p)
    {
        var head = $"{p.Name}({p.Parameter})";
        var words = Clauses(p).ConvertAll(c => c.Words);
        if (p.Family == NanoFamily.Choice)
        {
            return p.Wording switch
            {
                0 => $"Write a Python function {head} for an integer x: if {words[0]}, {words[1]}, else {words[2]}. Return the result.",
                1 => $"Implement {head} in Python. For an integer x, when {words[0]}, {words[1]}; else {words[2]}. Return the result.",
                _ => $"Define a function {head}. Given an integer x, see if {words[0]}: if so, {words[1]}; if not, {words[2]}. Return it.",
            };
        }

        var source = p.Family switch
        {
            NanoFamily.List => "a list of integers xs",
            NanoFamily.Range => "the integers from 1 to n",
            _ => "a string s",
        };
        var steps = string.Join(p.Wording switch { 0 => ", ", 1 => ", then ", _ => "; " }, words[..^1]);
        var result = words[^1];
        return p.Wording switch
        {
            0 => $"Write a Python function {head} for {source}: {(steps.Length > 0 ? $"{steps}, and {result}" : result)}.",
            1 => $"Implement {head} in Python. From {source}, {(steps.Length > 0 ? $"{steps}, and {result}" : result)}.",
            _ => $"Define a function {head}. Given {source}, {(steps.Length > 0 ? $"{steps}; {result}" : result)}.",
        };
    }

    private static string Filter(NanoProblem p, string one)
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
            0 => $"keep the {one}s that are {what}",
            1 => $"take only {one}s {what}",
            _ => $"select the {one}s which are {what}",
        };
    }
}
