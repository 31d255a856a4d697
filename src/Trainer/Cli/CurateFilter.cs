using System.CommandLine;
using System.Text.Json;
using Z1Coder.Trainer.Curation.Filters;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 curate filter and z1 curate decontaminate: FILES… --out FILE</summary>
internal static class CurateFilter
{
    public static Command Filter()
    {
        var common = new Common();
        var near = new Option<double>("--near")
        {
            Description = "similarity of questions (Jaccard, runs of 5 words) that counts as near duplicate, above 0.5; 0 looks for none",
            DefaultValueFactory = _ => 0.7,
        };
        near.Validators.Add(result =>
        {
            if (result.Tokens.Count > 0 && double.TryParse(result.Tokens[0].Value, out var value)
                && !(value == 0 || value is > 0.5 and <= 1))
            {
                result.AddError($"--near {result.Tokens[0].Value}: above 0.5 and at most 1, or 0");
            }
        });
        var unfinished = new Option<bool>("--keep-unfinished")
        {
            Description = "keep answers that were cut (finish_reason length, <think> or a fence without its end)",
        };
        var end = new Option<string?>("--end-token") { Description = "a text that every answer must end with" };
        var language = new Option<string>("--language")
        {
            Description = "python (a Python block), any (some fenced block) or none (code is not asked for)",
            DefaultValueFactory = _ => "python",
        };
        language.AcceptOnlyFromAmong("python", "any", "none");
        var least = new Option<int>("--min-chars") { Description = "least characters of an answer", DefaultValueFactory = _ => 1 };
        var most = new Option<int?>("--max-chars") { Description = "most characters of an answer; no limit without it" };
        var tokenizer = new Option<string?>("--tokenizer") { Description = "a model directory or tokenizer.json, for --max-tokens" };
        var tokens = new Option<int?>("--max-tokens") { Description = "most tokens of question and answer together; no limit without it" };
        foreach (var option in new Option[] { least, most, tokens })
        {
            PlanCommand.Within(option, 0, int.MaxValue);
        }

        var command = new Command(
            "filter",
            """
            Copies the records that are worth training on, and says what went and why.

                z1 curate filter trajectories.jsonl --out clean.jsonl
            Taken out: exact duplicates, empty and cut answers, answers without Python code, near duplicates of earlier questions, and by
            choice what is too short or too long. The report stands in OUT.report.json: counts, and a few examples of each reason.
            """)
        { common.Files, common.Output, common.Fields, common.Skip, near, unfinished, end, language, least, most, tokenizer, tokens,
            common.Json };
        command.Validators.Add(result =>
        {
            if (result.GetValue(tokens) is not null && result.GetValue(tokenizer) is null)
            {
                result.AddError("--max-tokens needs --tokenizer");
            }
        });
        command.SetAction(parsed => common.Run(parsed, new FilterOptions
        {
            Unfinished = !parsed.GetValue(unfinished), EndToken = parsed.GetValue(end), CodeBlock = parsed.GetValue(language) != "none",
            Python = parsed.GetValue(language) == "python", LeastCharacters = parsed.GetValue(least),
            MostCharacters = parsed.GetValue(most) ?? int.MaxValue,
            MostTokens = parsed.GetValue(tokens) ?? int.MaxValue, CountTokens = Counter(parsed.GetValue(tokenizer)), NearDuplicates = parsed.GetValue(near),
        }));
        return command;
    }

    public static Command Decontaminate()
    {
        var common = new Common();
        var benchmarks = new Option<string[]>("--benchmark")
        {
            Description = "a benchmark as published: JSON or JSONL, plain or .gz (repeatable)", Required = true,
            AllowMultipleArgumentsPerToken = true,
        };
        var fields = new Option<string[]>("--benchmark-fields")
        {
            Description = "text fields of the tasks; every known problem and solution field otherwise",
            AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [],
        };
        var words = new Option<int>("--ngram")
        {
            Description = "words in a row that count as overlap", DefaultValueFactory = _ => BenchmarkIndex.DefaultWords,
        };
        PlanCommand.Within(words, 5, 1000);
        var commonRuns = new Option<int>("--ignore-common")
        {
            Description = "forget runs of words that stand in at least so many tasks (boilerplate); 0 forgets none",
        };
        PlanCommand.Within(commonRuns, 0, int.MaxValue);
        var command = new Command(
            "decontaminate",
            """
            Copies the records that share no run of words with the benchmarks given.

                z1 curate decontaminate clean.jsonl --benchmark HumanEval.jsonl --benchmark mbpp.jsonl --out train.jsonl
            Questions and answers are both looked at; case, punctuation and layout do not count. Ten words in a row, or the whole of a
            shorter task text, is overlap. The report in OUT.report.json names the task and the words.
            """)
        { common.Files, common.Output, common.Fields, common.Skip, benchmarks, fields, words, commonRuns, common.Json };
        command.SetAction(parsed =>
        {
            var index = new BenchmarkIndex(parsed.GetValue(words));
            foreach (var file in parsed.GetValue(benchmarks)!)
            {
                index.Add(file, parsed.GetValue(fields)!);
            }

            if (parsed.GetValue(commonRuns) > 0)
            {
                index.ForgetCommon(parsed.GetValue(commonRuns));
            }

            return common.Run(parsed, new FilterOptions
            {
                Exact = false, Unfinished = false, CodeBlock = false, Python = false, LeastCharacters = 0, NearDuplicates = 0,
                Benchmarks = index,
            });
        });
        return command;
    }

    private static Func<string, int>? Counter(string? tokenizer)
    {
        if (tokenizer is null)
        {
            return null;
        }

        var loaded = Tokenizer.Load(tokenizer);
        return text => loaded.Encode(text).Length;
    }

    /// <summary>What both verbs take, and the run.</summary>
    private sealed class Common
    {
        public Argument<string[]> Files { get; } = CurateOptions.Inputs("training records: JSON or JSONL, plain or .gz");

        public Option<string> Output { get; } = new("--out")
        {
            Description = "JSONL of the records that pass, unchanged; it appears whole or not at all", Required = true,
        };

        public Option<string?> Fields { get; } = CurateOptions.Fields();

        public Option<bool> Skip { get; } = CurateOptions.SkipBroken();

        public Option<bool> Json { get; } = new("--json") { Description = "the report as JSON" };

        public int Run(ParseResult parsed, FilterOptions options)
        {
            var report = new DataReport();
            var filter = new CurationFilter(options, report);
            var output = parsed.GetValue(Output)!;
            var map = parsed.GetValue(Fields) is { } text ? FieldMap.Parse(text) : null;
            filter.Run(parsed.GetValue(Files)!, map, CurateOptions.Policy(parsed.GetValue(Skip)), output);
            var path = Path.ChangeExtension(output, null) + ".report.json";
            using (var file = File.Create(path))
            using (var json = new Utf8JsonWriter(file, TeacherJson.Plain with { Indented = true }))
            {
                json.WriteStartObject();
                Write(json, filter, report, options);
                json.WriteEndObject();
            }

            if (parsed.GetValue(Json))
            {
                CliJson.Write(json => Write(json, filter, report, options));
                return 0;
            }

            Console.WriteLine($"{report.Records} records: {filter.Kept} kept, {report.Dropped} taken out");
            foreach (var drop in report.Drops)
            {
                Console.WriteLine($"  {drop.Count} {drop.Reason}, for example {drop.Examples[0]}");
            }

            Console.WriteLine(path);
            return 0;
        }

        private static void Write(Utf8JsonWriter json, CurationFilter filter, DataReport report, FilterOptions options)
        {
            json.WriteNumber("records", report.Records);
            json.WriteNumber("kept", filter.Kept);
            json.WriteNumber("taken_out", report.Dropped);
            if (options.Benchmarks is { } index)
            {
                json.WriteNumber("benchmark_tasks", index.Tasks);
                json.WriteNumber("task_texts_too_short_to_tell", index.TooShort);
            }

            DropCountJson.Write(json, "reasons", report.Drops);
        }
    }
}
