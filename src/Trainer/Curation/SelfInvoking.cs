using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Curation;

/// <summary>
/// A problem with its solution -> a harder problem that must call the solution -> the teacher's solution, kept only when running it proves
/// both: the generated tests pass, and the base function was called by something else than the tests. A solution that does nothing must
/// fail the tests, or they test nothing. As HumanEval Pro and MBPP Pro were built (arXiv:2412.21199).
/// </summary>
public sealed class SelfInvoking : IDisposable
{
    /// <summary>The prompt that asks for the harder problem.</summary>
    public const string ProblemPrompt = "self-invoking";

    /// <summary>The prompt that asks for its solution, and that a model is trained on.</summary>
    public const string QuestionPrompt = "self-invoking-question";

    private const string NotCalled = "z1: the base function was not called";

    // CPU time decides, not the clock on the wall: a verdict is for good, and must not depend on what else the machine does
    private static readonly SandboxLimits s_limits = new() { WallSeconds = 60, CpuSeconds = 10, MemoryBytes = 1L << 30 };

    private readonly Sandbox _sandbox;
    private readonly SemaphoreSlim _cores = new(Environment.ProcessorCount);
    private readonly TeacherClient _teacher;
    private readonly PromptFile _problem, _question;
    private readonly DecodingParameters _decoding;

    /// <summary>Asks <paramref name="teacher"/>, runs in <paramref name="sandbox"/>.</summary>
    public SelfInvoking(TeacherClient teacher, Sandbox sandbox, PromptFile problem, PromptFile question, DecodingParameters decoding) =>
        (_teacher, _sandbox, _problem, _question, _decoding) = (teacher, sandbox, problem, question, decoding);

    /// <summary>Makes one self-invoking record, with two requests and at most two runs.</summary>
    public async Task<CurationOutcome> AskAsync(Problem item, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(item);
        var solution = CodeExtractor.Extract(item.Response);
        var function = PythonSource.LastFunction(solution);
        if (item.Text.Length == 0 || function is null)
        {
            return Dropped(item, item.Text.Length == 0 ? DropReasons.NotSingleTurn : "the base solution defines no function");
        }

        var reply = await _teacher.AskAsync(
            _problem.Render(("problem", item.Text), ("solution", solution.TrimEnd()), ("function", function)), _decoding, cancellation)
                .ConfigureAwait(false);
        var sections = new ReplySections(reply.Text);
        var (name, problem, tests) = (sections["Function"].Trim('`', ' ', '(', ')'), sections["Problem"],
            CodeExtractor.Extract(sections["Tests"]));
        if (WhyNoTask(function, name, problem, tests, reply.IsCut) is { } reason)
        {
            return Dropped(item, reason, reply.Text);
        }

        var turns = _question.Render(("problem", item.Text), ("function", function), ("new_problem", problem), ("new_function", name));
        var answer = await _teacher.AskAsync(turns, _decoding, cancellation).ConfigureAwait(false);
        var code = CodeExtractor.Extract(answer.Text, entryPoint: name);
        var verdict = answer.IsCut ? Verdict.Drop("answer cut")
            : !CodeExtractor.Defines(code, name) ? Verdict.Drop("the solution does not define the function")
            : await VerifyAsync(solution, function, code, name, tests, cancellation).ConfigureAwait(false);
        return new CurationOutcome(verdict, json =>
        {
            Trajectories.Write(json, item.Id, string.Join("\n\n", turns.Where(t => !t.IsAssistant).Select(t => t.Content)), answer);
            json.WriteString("base_function", function);
            json.WriteString("entry_point", name);
            json.WriteString("base_solution", solution);
            json.WriteString("tests", tests);
        });
    }

    /// <inheritdoc/>
    public void Dispose() => _cores.Dispose();

    /// <summary>Runs base solution, solution and tests as one program, then the tests alone against a function that does nothing.</summary>
    internal async Task<Verdict> VerifyAsync(string solution, string function, string code, string name, string tests,
        CancellationToken cancellation)
    {
        var program = $"{solution}\n\n{code}";
        var run = await RunAsync(program, Watch(function) + tests + $"\nassert {function}.z1_calls[0] > 0, \"{NotCalled}\"\n",
            cancellation).ConfigureAwait(false);
        if (run.Outcome != SandboxOutcome.Passed)
        {
            return Verdict.Drop(run.Stderr.Contains(NotCalled, StringComparison.Ordinal) ? "the base function was not called"
                : run.Outcome switch
            {
                SandboxOutcome.TimedOut => "the program ran out of time",
                SandboxOutcome.OutOfMemory => "the program ran out of memory",
                _ => "the tests failed",
            });
        }

        var nothing = await RunAsync(program, $"def {name}(*arguments, **named):\n    return None\n{tests}", cancellation)
            .ConfigureAwait(false);
        return nothing.Outcome == SandboxOutcome.Passed ? Verdict.Drop("the tests test nothing") : Verdict.Keep;
    }

    /// <summary>What makes the reply no task, or null.</summary>
    internal static string? WhyNoTask(string function, string name, string problem, string tests, bool isCut) =>
        isCut ? "reply cut"
        : name.Length == 0 || problem.Length == 0 || tests.Length == 0 ? "the reply lacks a section"
        : !PythonSource.IsName(name) ? "the function's name is no name"
        : name == function ? "the function has the base function's name"
        : TeacherTexts.IsRefusal(problem) ? "refused"
        : !tests.Contains("assert", StringComparison.Ordinal) || !tests.Contains(name + "(", StringComparison.Ordinal)
            ? "the tests do not call the function"
        : null;

    // Counts calls that come from a function of the program (compiled under that name by the harness) other than the base function itself: not from the
    // tests, whatever makes the call there, and not from what the base function runs, such as its own comprehensions.
    private static string Watch(string function) =>
        $$"""
        def z1_watch(base):
            import functools, sys
            calls, inside = [0], [0]
            own = getattr(base, "__code__", None)
            @functools.wraps(base)
            def watched(*arguments, **named):
                caller = sys._getframe(1).f_code
                if caller.co_filename == "<program>" and caller is not own and not inside[0]:
                    calls[0] += 1
                inside[0] += 1
                try:
                    return base(*arguments, **named)
                finally:
                    inside[0] -= 1
            watched.z1_calls = calls
            return watched
        {{function}} = z1_watch({{function}})

        """;

    private async Task<SandboxResult> RunAsync(string program, string tests, CancellationToken cancellation)
    {
        await _cores.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            return await _sandbox.RunAsync(new SandboxProgram(program, tests), s_limits, cancellation).ConfigureAwait(false);
        }
        finally
        {
            _cores.Release();
        }
    }

    private static CurationOutcome Dropped(Problem item, string reason, string reply = "") => new(Verdict.Drop(reason), json =>
    {
        json.WriteString("id", item.Id);
        if (reply.Length > 0)
        {
            json.WriteString("reply", reply);
        }
    });
}
