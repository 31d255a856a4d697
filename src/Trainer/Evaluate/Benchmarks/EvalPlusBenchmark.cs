using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Z1Coder.Trainer.Evaluate.Benchmarks;

/// <summary>
/// What HumanEval+ and MBPP+ share (Liu et al. 2023, arXiv:2305.01210; evalplus): inputs in the file, outputs computed by the reference on this
/// machine, base and plus inputs one after the other, and the first wrong output fails the task. Plus inputs of the
/// pre-release that a task's contract rejects, or on which its reference fails, do not count; the releases hold none. Outputs are equal by ==; where the task has a
/// tolerance atol, or the expected output is a float or a list or tuple of floats (then atol is 1e-6, from that input on), also when types and lengths
/// are equal and |out - expected| is at most atol + 1e-7 · |expected| in every element. Each input may take max(4 s, 4 times what the reference took; floor and factor of
/// the options), all together at most 60 s.
/// </summary>
public abstract class EvalPlusBenchmark : Benchmark
{
    private const double MostSeconds = 60;

    /// <inheritdoc/>
    public override string Source => "Liu et al. 2023, arXiv:2305.01210; evalplus";

    // evalplus has more for each of the two where a base model completes the bare prompt; after a chat prompt they would cut whole programs.
    /// <inheritdoc/>
    public override IReadOnlyList<string> Stops { get; } = [.. EndTokens, "\nif __name__", "\ndef main(", "\nprint(", "\n```\n"];

    /// <inheritdoc/>
    public override SandboxLimits Limits { get; } = new() { MemoryBytes = 4L << 30, OutputKeptBytes = 64 << 20, OutputBytes = 64 << 20 };

    /// <inheritdoc/>
    public override double Seconds(BenchmarkTask task, double reference, EvaluationOptions options) =>
        1 + Math.Min(MostSeconds, task.Inputs * options.FloorSeconds + options.ReferenceFactor * reference);

    /// <summary>A task from what its file says.</summary>
    /// <param name="row">Holds base_input, atol, and plus_input or inputs.</param>
    /// <param name="id">The task.</param>
    /// <param name="prompt">What the model completes.</param>
    /// <param name="entryPoint">Function under test.</param>
    /// <param name="reference">Whole program.</param>
    /// <param name="arguments">Python expression that makes the arguments from inp, which is what the file holds.</param>
    /// <param name="oracle">Python statements that may set same, given out, exp, inp and atol; indented by 8 blanks.</param>
    /// <param name="expected">Python expression that makes the expected value from out of the reference.</param>
    /// <param name="oracleProgram">
    /// The reference with its contract, where plus inputs have not been held against it: those that it rejects or fails on do not count.
    /// </param>
    private protected static BenchmarkTask TaskOf(
        BenchmarkRow row, string id, string prompt, string entryPoint, string reference, string arguments, string oracle, string expected,
        string? oracleProgram = null)
    {
        var inputs = row.Array("base_input", required: true).Concat(row.Array(row.Has("plus_input") ? "plus_input" : "inputs", required: false)).ToList();
        if (inputs.Count == 0)
        {
            throw row.Error("base_input", "is empty; anything would pass");
        }

        if (inputs.Find(i => i.ValueKind != JsonValueKind.Array) is { ValueKind: not JsonValueKind.Undefined })
        {
            throw row.Error("base_input", "or the plus inputs hold something that is not a list of arguments");
        }

        var packed = Convert.ToBase64String(Encoding.UTF8.GetBytes("[" + string.Join(",", inputs.Select(i => i.GetRawText())) + "]"));
        var atol = row.Number("atol", 0);
        if (!(atol >= 0))
        {
            throw row.Error("atol", "is negative; it must be 0 or a tolerance");
        }

        var common = Common.Replace("$INPUTS", packed, StringComparison.Ordinal).Replace("$ENTRY", entryPoint, StringComparison.Ordinal)
            .Replace("$ARGUMENTS", arguments, StringComparison.Ordinal);
        return new BenchmarkTask
        {
            TaskId = id,
            Prompt = $"Please provide a self-contained Python script that solves the following problem in a markdown code block:\n```\n{prompt.Trim()}\n```\n",
            Prefix = "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n```python\n",
            EntryPoint = entryPoint,
            Context = prompt,
            Reference = reference,
            Tests = common + Check.Replace("$ORACLE", oracle, StringComparison.Ordinal)
                .Replace("$ATOL", atol.ToString("R", CultureInfo.InvariantCulture), StringComparison.Ordinal),
            Oracle = common + Answers.Replace("$EXPECTED", expected, StringComparison.Ordinal)
                .Replace("$BASE", row.Array("base_input", required: true).Count.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal)
                .Replace("$STRICT", oracleProgram is null ? "True" : "False", StringComparison.Ordinal),
            OracleProgram = oracleProgram,
            Inputs = inputs.Count,
        };
    }

    // The answer follows the opened fence as a whole program.
    /// <inheritdoc/>
    public override Sample Extract(BenchmarkTask task, string answer) => new(task.TaskId, CodeExtractor.CutAtFence(answer), CompletionMode.Program);

    private const string Common = """
        class Z1TimeOut(BaseException):
            pass
        def z1_inputs():
            import base64, json
            def deep(x):
                return tuple(deep(i) for i in x) if isinstance(x, list) else x
            for inp in json.loads(base64.b64decode("$INPUTS")):
                yield $ARGUMENTS
        class Z1Quiet:
            def __enter__(self):
                import io, sys
                self.kept = sys.stdin, sys.stdout, sys.stderr
                sys.stdin, sys.stdout, sys.stderr = io.StringIO(), io.StringIO(), io.StringIO()
            def __exit__(self, *_):
                import sys
                sys.stdin, sys.stdout, sys.stderr = self.kept
        z1_function = globals().get("$ENTRY")

        """;

    private const string Answers = """
        def z1_answers():
            import base64, copy, pickle, sys, time
            answers = {}
            for at, inp in enumerate(z1_inputs()):
                arguments = copy.deepcopy(inp)
                try:
                    with Z1Quiet():
                        start = time.perf_counter()
                        out = z1_function(*arguments)
                        took = time.perf_counter() - start
                except Exception:
                    if $STRICT or at < $BASE:
                        raise
                    continue
                answers[at] = $EXPECTED, took
            sys.stdout.write("\nz1-expected\n" + base64.b64encode(pickle.dumps(answers)).decode() + "\n")
        z1_answers()
        """;

    // atol once set for a float stays set for the inputs that follow: so does evalplus.
    private const string Check = """
        def z1_check():
            import base64, pickle, signal
            def floats(x):
                return isinstance(x, float) or isinstance(x, (list, tuple)) and len(x) > 0 and all(isinstance(i, float) for i in x)
            def close(out, exp):
                if isinstance(exp, (list, tuple)):
                    return len(out) == len(exp) and all(close(o, e) for o, e in zip(out, exp))
                return out == exp or abs(out - exp) <= atol + 1e-7 * abs(exp)
            expired = []
            def late(*_):
                expired.append(True)
                raise Z1TimeOut
            signal.signal(signal.SIGALRM, late)
            answers = pickle.loads(base64.b64decode(z1_expected))
            atol = $ATOL
            for at, inp in enumerate(z1_inputs()):
                if at not in answers:
                    continue
                exp, took = answers[at]
                signal.setitimer(signal.ITIMER_REAL, max(z1_floor, z1_factor * took))
                try:
                    with Z1Quiet():
                        out = z1_function(*inp)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    if expired:
                        raise Z1TimeOut             # whatever the function made of it: late is not wrong
                same = out == exp
        $ORACLE
                if atol == 0 and floats(exp):
                    atol = 1e-6
                if not same and atol != 0:
                    assert type(out) == type(exp), f"input {at}: a {type(out).__name__}, a {type(exp).__name__} expected"
                    assert close(out, exp), f"input {at}: not within {atol}"
                else:
                    assert same, f"input {at}: wrong"
        z1_check()
        """;
}
