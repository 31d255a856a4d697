using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Z1Coder.Trainer.Data.Journal;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// A model against one benchmark: it answers, and each answer goes to the grader as it is finished, while others are still being written.
/// The same code serves z1 eval and pass@1 during training.
/// </summary>
public sealed class ModelEvaluation : IDisposable
{
    private readonly AnswerOptions _options;
    private readonly IReadOnlyList<int> _endTokens;
    private readonly List<AnswerRequest> _requests;
    private readonly Answer?[] _answers;
    private AnswerJournal? _journal;
    private Grader? _grader;
    private int _answered;
    private long _tokens;

    private ModelEvaluation(
        Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, IReadOnlyList<int> endTokens, AnswerOptions options,
        List<AnswerRequest> requests)
    {
        (Benchmark, Tasks, _endTokens, _options, _requests) = (benchmark, tasks, endTokens, options, requests);
        _answers = new Answer?[requests.Count];
    }

    /// <summary>Whose protocol is followed.</summary>
    public Benchmark Benchmark { get; }

    /// <summary>The tasks asked, in order.</summary>
    public IReadOnlyList<BenchmarkTask> Tasks { get; }

    /// <summary>Answers wanted.</summary>
    public int Wanted => _requests.Count;

    /// <summary>Those that an earlier run had finished.</summary>
    public int Found { get; private set; }

    /// <summary>Those that are there.</summary>
    public int Answered => Volatile.Read(ref _answered);

    /// <summary>Those that have a verdict.</summary>
    public int Graded => _grader?.Graded ?? 0;

    /// <summary>Tokens that this run wrote.</summary>
    public long NewTokens => Interlocked.Read(ref _tokens);

    /// <summary>Room that the longest prompt and its answer take in a cache, tokens.</summary>
    public int LongestSequence => _requests.Max(r => r.Prompt.Length) + _options.MaxNewTokens + 1;

    /// <summary>The answers, task after task; null where there is none yet.</summary>
    public IReadOnlyList<Answer?> Answers => _answers;

    /// <summary>Makes the prompts: the user's turn is the task's prompt, and the model's turn begins with the task's prefix.</summary>
    /// <param name="benchmark">The protocol.</param>
    /// <param name="tasks">What is asked; at least one.</param>
    /// <param name="codec">Tokenizer and template.</param>
    /// <param name="endTokens">Ids that end an answer.</param>
    /// <param name="options">How to decode, and how often.</param>
    public static ModelEvaluation Prepare(
        Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, PromptCodec codec, IReadOnlyList<int> endTokens, AnswerOptions options)
    {
        ArgumentNullException.ThrowIfNull(tasks);
        ArgumentNullException.ThrowIfNull(codec);
        ArgumentNullException.ThrowIfNull(options);
        var requests = new List<AnswerRequest>(tasks.Count * options.Samples);
        foreach (var task in tasks)
        {
            var prompt = codec.Prompt(task.Prompt, task.Prefix);
            var tests = EvaluationFiles.HashOf(task);
            for (var sample = 0; sample < options.Samples; sample++)
            {
                requests.Add(new AnswerRequest(task, tests, sample, requests.Count, prompt, KeyOf(task, sample, prompt)));
            }
        }

        return new ModelEvaluation(benchmark, tasks, endTokens, options, requests);
    }

    /// <summary>What decides an answer besides its task.</summary>
    /// <param name="model">hash of the model's files</param>
    /// <param name="template">hash of the chat template, or the name of another prompt</param>
    /// <param name="data">hash of the benchmark's files</param>
    /// <param name="dtype">storage of the weights</param>
    /// <param name="device">kind of device</param>
    /// <param name="slots">sequences at once; 0 where they do not change a bit</param>
    /// <param name="context">longest sequence, tokens</param>
    public Fingerprint FingerprintOf(
        string model, string template, string data, string dtype, string device, int slots, int context) => new(json =>
    {
        json.WriteString("verb", "eval");
        json.WriteString("benchmark", Benchmark.Name);
        json.WriteString("data", data);
        json.WriteString("model", model);
        json.WriteString("template", template);
        json.WriteString("dtype", dtype);
        json.WriteString("device", device);
        json.WriteNumber("slots", slots);
        json.WriteNumber("context", context);
        json.WriteNumber("temperature", _options.Temperature);
        json.WriteNumber("top_p", _options.TopP);
        json.WriteString("seed", _options.Seed.ToString(CultureInfo.InvariantCulture));
        json.WriteNumber("max_tokens", _options.MaxNewTokens);
        json.WriteStartArray("stop");
        foreach (var stop in _options.Stops)
        {
            json.WriteStringValue(stop);
        }

        json.WriteEndArray();
        json.WriteStartArray("end");
        foreach (var token in _endTokens)
        {
            json.WriteNumberValue(token);
        }

        json.WriteEndArray();
    });

    /// <summary>Keeps the answers in a file, and takes those that it holds.</summary>
    /// <param name="path">appended to as answers are finished</param>
    /// <param name="fingerprint">see <see cref="FingerprintOf"/></param>
    /// <param name="allowChanged">whether answers of another fingerprint count</param>
    /// <exception cref="Data.InvalidInputException">The file holds answers that were asked for in another way, one answer twice, or
    /// something else.</exception>
    public void Keep(string path, Fingerprint fingerprint, bool allowChanged)
    {
        _journal = new AnswerJournal(path, fingerprint, allowChanged, _requests);
        foreach (var request in _requests)
        {
            _answers[request.Position] = _journal.Find(request);
        }

        Found = _answered = _answers.Count(a => a is not null);
    }

    /// <summary>Answers what is not there yet, grades everything, and puts the kept answers in order.</summary>
    /// <param name="engine">gives the engine; not called when every answer is there</param>
    /// <param name="grading">limits, files and workers of the grader</param>
    /// <param name="cancellation">ends it; what is finished is kept</param>
    /// <exception cref="Data.InvalidInputException">A reference fails and the options say stop, or a file cannot be written.</exception>
    /// <exception cref="SandboxException">Programs cannot be confined here.</exception>
    public async Task<BenchmarkScore> RunAsync(Func<DecodeEngine> engine, EvaluationOptions grading, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(engine);
        using var grader = _grader = await Grader.StartAsync(Benchmark, Tasks, grading, alsoCut: true, cancellation);
        var missing = _requests.Where(r => _answers[r.Position] is null).ToList();
        grader.CheckReferences(missing.Select(r => r.Task).Distinct());
        grader.Add(_requests.Where(r => _answers[r.Position] is not null).Select(r => (SampleOf(r), r.Sample, r.Position)));
        if (missing.Count > 0)
        {
            await AnswerAsync(engine, missing, grader);
        }

        var (plain, cut) = await grader.FinishAsync();
        if (_journal is not null)
        {
            _journal.Dispose();
            _journal.PutInOrder();
        }

        return BenchmarkScore.Of(Benchmark, Tasks, grading, plain, cut);
    }

    /// <summary>Writes the code of each answer in the form that graders read: the whole program as "solution", or what continues the
    /// prompt as "completion".</summary>
    public void WriteSamples(string path)
    {
        using (var file = new StreamWriter(path + ".partial") { NewLine = "\n" })
        {
            foreach (var request in _requests)
            {
                var sample = SampleOf(request);
                var field = sample.Mode is CompletionMode.Program or CompletionMode.Calibrated ? "solution" : "completion";
                file.WriteLine(JsonLine.Of(json =>
                {
                    json.WriteString(Benchmark.IdField, sample.TaskId);
                    json.WriteString(field, sample.Code);
                }));
            }
        }

        File.Move(path + ".partial", path, overwrite: true);
    }

    /// <summary>Closes the file of answers.</summary>
    public void Dispose() => _journal?.Dispose();

    private static UInt128 KeyOf(BenchmarkTask task, int sample, int[] prompt)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(MemoryMarshal.AsBytes<int>([Encoding.UTF8.GetByteCount(task.TaskId), sample]));
        hash.AppendData(Encoding.UTF8.GetBytes(task.TaskId));
        hash.AppendData(MemoryMarshal.AsBytes(prompt.AsSpan()));
        return BinaryPrimitives.ReadUInt128BigEndian(hash.GetHashAndReset());
    }

    private async Task AnswerAsync(Func<DecodeEngine> engine, List<AnswerRequest> missing, Grader grader)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(grader.Stopped);
        var kept = new List<Task>();
        try
        {
            // A thread of its own: it is busy until the last answer, and the pool's threads grade.
            await Task.Factory.StartNew(Generate, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }
        catch (OperationCanceledException) when (grader.Stopped.IsCancellationRequested)
        {
            await Task.WhenAll(kept);
            await grader.FinishAsync();       // throws what stopped it
            throw;
        }
        catch (OperationCanceledException)
        {
            // an answer could not be kept: below
        }

        await Task.WhenAll(kept);

        void Generate() => AnswerGenerator.Run(
            engine(), missing, _options, _endTokens, (request, answer) => kept.Add(KeepAsync(request, answer, grader, stop)), stop.Token);
    }

    private async Task KeepAsync(AnswerRequest request, Answer answer, Grader grader, CancellationTokenSource stop)
    {
        _answers[request.Position] = answer;
        Interlocked.Add(ref _tokens, answer.Tokens);
        Interlocked.Increment(ref _answered);
        try
        {
            if (_journal is not null)
            {
                await _journal.AppendAsync(request, answer).ConfigureAwait(false);
            }

            grader.Add([(SampleOf(request), request.Sample, request.Position)]);
        }
        catch
        {
            await stop.CancelAsync().ConfigureAwait(false);
            throw;
        }
    }

    private Sample SampleOf(AnswerRequest request) => _answers[request.Position]!.ToSample(Benchmark, request.Task);
}
