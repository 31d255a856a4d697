using System.CommandLine;
using Z1Coder.Trainer.Curation;
using Z1Coder.Trainer.Data.Journal;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>The options of every verb that asks a teacher, and the run itself.</summary>
internal sealed class CurateTeacher
{
    private const string ApiChat = "chat", ApiCompletions = "completions";

    private readonly Option<string> _output = new("--out")
    {
        Description = "JSONL that is made or continued; OUT.dropped.jsonl beside it takes what is dropped, with the reason",
    };
    private readonly Option<string> _teacher = new("--teacher")
    {
        Description = "base address of an OpenAI-compatible server, such as http://localhost:8000/v1",
    };
    private readonly Option<string> _model = new("--model")
    {
        Description = "the teacher's name on the server, such as Qwen/QwQ-32B-Preview",
    };
    private readonly Option<string> _keyVariable = new("--key-from")
    {
        Description = "environment variable that holds the key; unset sends none", DefaultValueFactory = _ => "OPENAI_API_KEY",
    };
    private readonly Option<string> _api;
    private readonly Option<string?> _prompts = new("--prompts")
    {
        Description = "directory with your copies of recipes/prompts/*.txt; the built-in ones otherwise",
    };
    private readonly Option<double> _temperature = new("--temperature") { Description = "0 is greedy, as published" };
    private readonly Option<double> _topP = new("--top-p")
    {
        Description = "share of the probability sampled from", DefaultValueFactory = _ => 1,
    };
    private readonly Option<int> _maxTokens = new("--max-tokens")
    {
        Description = "longest answer, tokens", DefaultValueFactory = _ => 4096,
    };
    private readonly Option<long?> _seed = new("--seed") { Description = "seed of the server's sampler" };
    private readonly Option<string[]> _stop = new("--stop")
    {
        Description = "a text that ends an answer (repeatable)", DefaultValueFactory = _ => [],
    };
    private readonly Option<int> _concurrency = new("--concurrency")
    {
        Description = "requests in flight at once", DefaultValueFactory = _ => 16,
    };
    private readonly Option<double> _rpm = new("--rpm") { Description = "requests per minute; 0 sets no limit" };
    private readonly Option<double> _tpm = new("--tpm") { Description = "tokens per minute, prompt and answer; 0 sets no limit" };
    private readonly Option<double> _timeout = new("--timeout")
    {
        Description = "seconds until a request is given up and tried again", DefaultValueFactory = _ => 600,
    };
    private readonly Option<int> _retries = new("--retries")
    {
        Description = "tries after the first, with exponential back-off and jitter", DefaultValueFactory = _ => 8,
    };
    private readonly Option<double> _backOff = new("--back-off")
    {
        Description = "seconds before the first retry", DefaultValueFactory = _ => 1,
    };
    private readonly Option<double> _grace = new("--grace")
    {
        Description = "seconds that requests in flight get to finish after SIGTERM or Ctrl-C", DefaultValueFactory = _ => 30,
    };
    private readonly Option<double> _priceIn = new("--price-in") { Description = "money per million tokens read; for the cost shown" };
    private readonly Option<double> _priceOut = new("--price-out") { Description = "money per million tokens written" };
    private readonly Option<bool> _allowChanged = new("--allow-changed")
    {
        Description = "continue a file whose records were asked for in another way",
    };
    private readonly Option<double> _every = new("--progress-every")
    {
        Description = "seconds between plain progress lines", DefaultValueFactory = _ => 10,
    };
    private readonly Option<bool> _json = new("--json") { Description = "the summary as JSON, and no progress" };

    public CurateTeacher(TeacherApi api)
    {
        _api = new Option<string>("--api")
        {
            Description = "chat (turns, the server applies the template) or completions (one text, continued as it stands)",
            DefaultValueFactory = _ => api == TeacherApi.Chat ? ApiChat : ApiCompletions,
        };
        _api.AcceptOnlyFromAmong(ApiChat, ApiCompletions);
        PlanCommand.Readable(_teacher, text => new TeacherOptions { BaseUrl = text }.Endpoint(api));
        PlanCommand.Within(_maxTokens, 1, 1_000_000);
        PlanCommand.Within(_topP, 0, 1);
        PlanCommand.Within(_concurrency, 1, 4096);
        PlanCommand.Within(_retries, 0, 1000);
        foreach (var (option, least) in new[] { (_timeout, 0.001), (_backOff, 0.001), (_grace, 0), (_rpm, 0), (_tpm, 0), (_priceIn, 0),
            (_priceOut, 0), (_temperature, 0), (_every, 0.01) })
        {
            CurateOptions.AtLeast(option, least);
        }
    }

    /// <param name="command">the verb</param>
    /// <param name="unless">an option with which nobody is asked and nothing is written</param>
    public void AddTo(Command command, Option<bool>? unless = null)
    {
        (_output.Required, _teacher.Required, _model.Required) = (unless is null, unless is null, unless is null);
        if (unless is not null)
        {
            command.Validators.Add(result =>
            {
                foreach (var option in new[] { _output, _teacher, _model }.Where(o => !result.GetValue(unless) && result.GetResult(o) is null))
                {
                    result.AddError($"{option.Name} is required without {unless.Name}");
                }
            });
        }

        foreach (var option in new Option[]
        {
            _output, _teacher, _model, _keyVariable, _api, _prompts, _temperature, _topP, _maxTokens, _seed, _stop, _concurrency, _rpm,
            _tpm, _timeout, _retries,
            _backOff, _grace, _priceIn, _priceOut, _allowChanged, _every, _json,
        })
        {
            command.Options.Add(option);
        }
    }

    /// <summary>Loads a prompt file, the user's or the built-in one.</summary>
    public PromptFile Prompt(ParseResult parsed, string name, params IReadOnlyList<string> values) =>
        PromptFile.Load(name, parsed.GetValue(_prompts), values);

    /// <summary>Where the output goes; without one the folder of temporary files.</summary>
    public string OutputDirectory(ParseResult parsed) =>
        parsed.GetValue(_output) is { } path ? Path.GetDirectoryName(Path.GetFullPath(path))! : Path.GetTempPath();

    public bool IsJson(ParseResult parsed) => parsed.GetValue(_json);

    public DecodingParameters Decoding(ParseResult parsed) => new()
    {
        Temperature = parsed.GetValue(_temperature), TopP = parsed.GetValue(_topP), MaxTokens = parsed.GetValue(_maxTokens),
        Seed = parsed.GetValue(_seed),
        Stop = parsed.GetValue(_stop)!,
    };

    /// <summary>Counts what is left, asks for it, and says how it went. Exit code 0 when all is done or a signal came, 1 when items
    /// failed.</summary>
    /// <param name="parsed">the command line</param>
    /// <param name="verb">for the fingerprint and the lines</param>
    /// <param name="prompts">the files that requests are made from</param>
    /// <param name="options">options of the verb that change what is asked</param>
    /// <param name="items">the input, read twice: once to count and to find broken input before anything is asked, once to work</param>
    /// <param name="key">content hash of an item</param>
    /// <param name="id">what messages call an item</param>
    /// <param name="work">makes an item's record</param>
    public int Run<TItem>(
        ParseResult parsed, string verb, IReadOnlyList<PromptFile> prompts, IReadOnlyList<(string Name, string Value)> options,
        Func<IEnumerable<TItem>> items,
        Func<TItem, UInt128> key, Func<TItem, string> id, Func<TeacherClient, TItem, CancellationToken, Task<CurationOutcome>> work)
    {
        using var signal = new StopSignal();
        var api = parsed.GetValue(_api) == ApiChat ? TeacherApi.Chat : TeacherApi.Completions;
        var model = parsed.GetValue(_model)!;
        using var teacher = new TeacherClient(Teacher(parsed), api, model, signal.Token);
        using var journal = new ItemJournal(
            parsed.GetValue(_output)!, new RequestFingerprint(verb, model, api, prompts, Decoding(parsed), options),
            parsed.GetValue(_allowChanged));
        long total = 0, left = 0;
        foreach (var item in items().TakeWhile(_ => !signal.Token.IsCancellationRequested))
        {
            total++;
            left += journal.IsDone(key(item)) ? 0 : 1;
        }

        var json = parsed.GetValue(_json);
        var output = json ? TextWriter.Null : Console.Out;
        output.WriteLine(
            $"{verb}: {total} items, {total - left} done before, {left} to do"
                + (journal.TornBytes > 0 ? $"; a torn line of {journal.TornBytes} bytes was cut off" : ""));
        output.Flush();
        var progress = new CurationProgress(left, teacher, parsed.GetValue(_priceIn), parsed.GetValue(_priceOut));
        var run = new CurationOptions { Concurrency = parsed.GetValue(_concurrency), GraceSeconds = parsed.GetValue(_grace) };
        var view = new CurateView(verb, progress, output, TimeSpan.FromSeconds(parsed.GetValue(_every)));
        bool ended;
        try
        {
            ended = view.ShowAsync(Task.Run(() => CurationRun.RunAsync(
                items(), key, id, (item, token) => work(teacher, item, token), journal, progress, run, signal.Token))).GetAwaiter()
                    .GetResult();
        }
        catch (InvalidInputException e)
        {
            throw new InvalidInputException(
                $"{e.Message} [{progress.Kept + progress.Dropped} items of this run are kept; the same command goes on from there]", e);
        }

        Summary(verb, progress, view, journal, total, left, ended, signal.Name, json);
        if (progress.Failed > 0 && ended)
        {
            var example = progress.Reasons.First(r => r.Examples[0].Contains(": ", StringComparison.Ordinal)).Examples[0];
            return Cli.Fail($"{progress.Failed} items got no answer, for example {example}; the same command asks for them again");
        }

        return 0;
    }

    private TeacherOptions Teacher(ParseResult parsed)
    {
        var variable = parsed.GetValue(_keyVariable)!;
        return new TeacherOptions
        {
            BaseUrl = parsed.GetValue(_teacher)!, KeyVariable = variable, Key = Environment.GetEnvironmentVariable(variable)?.Trim(),
            Concurrency = parsed.GetValue(_concurrency), TimeoutSeconds = parsed.GetValue(_timeout), Retries = parsed.GetValue(_retries),
            BackOffSeconds = parsed.GetValue(_backOff), RequestsPerMinute = parsed.GetValue(_rpm), TokensPerMinute = parsed.GetValue(_tpm),
        };
    }

    private static void Summary(
        string verb, CurationProgress progress, CurateView view, ItemJournal journal, long total, long left, bool ended,
        string signal, bool asJson)
    {
        if (!asJson)
        {
            Console.WriteLine(view.Line());
            foreach (var reason in progress.Reasons)
            {
                Console.WriteLine($"  {reason.Count} {reason.Reason}, for example {reason.Examples[0]}");
            }

            Console.WriteLine(ended
                ? $"{verb}: {journal.Kept + progress.Kept} records, {journal.Dropped + progress.Dropped} dropped"
                : $"{verb}: stopped by {signal}; {journal.Kept + progress.Kept} records so far, the same command goes on from there");
            return;
        }

        CliJson.Write(json =>
        {
            json.WriteNumber("items", total);
            json.WriteNumber("done_before", total - left);
            json.WriteNumber("kept", progress.Kept);
            json.WriteNumber("dropped", progress.Dropped);
            json.WriteNumber("failed", progress.Failed);
            json.WriteBoolean("ended", ended);
            json.WriteNumber("prompt_tokens", progress.PromptTokens);
            json.WriteNumber("completion_tokens", progress.CompletionTokens);
            json.WriteNumber("cost", progress.Cost);
            json.WriteNumber("retries", progress.Retries);
            json.WriteNumber("items_per_second", Math.Round(progress.ItemsPerSecond, 3));
            json.WriteNumber("commits", journal.Commits);
            DropCountJson.Write(json, "reasons", progress.Reasons);
        });
    }
}
