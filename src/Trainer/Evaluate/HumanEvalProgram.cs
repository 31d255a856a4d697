namespace Z1Coder.Trainer.Evaluate;

/// <summary>Puts prompt, model code and tests together.</summary>
public static class HumanEvalProgram
{
    /// <summary>The program of <paramref name="code"/> and, apart from it, the task's tests and the call of check.</summary>
    /// <param name="task">The problem.</param>
    /// <param name="code">Model code; see <see cref="CodeExtractor"/> for chat answers.</param>
    /// <param name="mode">How code and prompt go together; a prompt that does not define the entry point is never joined.</param>
    public static SandboxProgram Build(HumanEvalTask task, string code, CompletionMode mode = CompletionMode.Auto) =>
        new(Join(task.Prompt, task.EntryPoint, code, mode), TestsOf(task));

    /// <summary>Prompt and code as one program.</summary>
    internal static string Join(string prompt, string entryPoint, string code, CompletionMode mode)
    {
        if (!DefinesAtMargin(prompt, entryPoint))
        {
            mode = CompletionMode.Program;              // an instruction in words is no code to join to
        }
        else if (mode == CompletionMode.Auto)
        {
            // A __future__ import must come first, so nothing can be put before it.
            mode = !DefinesAtMargin(code, entryPoint) ? CompletionMode.Continuation
                : HasLine(code, "from __future__ ") ? CompletionMode.Program
                : CompletionMode.Calibrated;
        }

        return mode switch
        {
            CompletionMode.Program => code,
            CompletionMode.Calibrated => prompt + "\n    pass\n\n" + code,
            _ => prompt + code,
        };
    }

    /// <summary>The task's tests, and the call of check where they only define it.</summary>
    internal static string TestsOf(HumanEvalTask task)
    {
        var calls = HasLine(task.Test, "def check(") && !HasLine(task.Test, "check(");
        return calls ? $"{task.Test}\n\ncheck({task.EntryPoint})\n" : task.Test;
    }

    private static bool DefinesAtMargin(string code, string name) =>
        HasLine(code, $"def {name}(") || HasLine(code, $"async def {name}(") || HasLine(code, $"{name} =") || HasLine(code, $"class {name}");

    private static bool HasLine(string text, string start) =>
        text.StartsWith(start, StringComparison.Ordinal) || text.Contains("\n" + start, StringComparison.Ordinal);
}
