using System.CommandLine;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 eval --tasks FILE (--model DIR | --completions FILE), and the verbs score, compare, list</summary>
internal static class EvalCommand
{
    public static Command Create()
    {
        var tasks = new Option<string>("--tasks") { Description = "HumanEval-format JSONL: task_id, prompt, entry_point, test", Required = true };
        var model = new Option<string?>("--model") { Description = "answer with this model (Hugging Face directory), greedily" };
        var completions = new Option<string?>("--completions") { Description = "grade these instead: JSONL with task_id and completion or solution" };
        var output = new Option<string?>("--out") { Description = "directory for results.jsonl (per task) and answers.jsonl" };
        var alpaca = new Option<bool>("--alpaca") { Description = "the published run's prompt text instead of the chat template" };
        var tokens = new Option<int>("--max-new-tokens") { Description = "longest answer", DefaultValueFactory = _ => 512 };
        PlanCommand.Within(tokens, 1, 1_000_000);
        var dtype = new Option<string>("--dtype") { Description = "bf16 or fp32", DefaultValueFactory = _ => "bf16" };
        dtype.AcceptOnlyFromAmong("bf16", "fp32");
        var device = Devices.Option();
        var json = new Option<bool>("--json") { Description = "the summary as JSON" };
        var command = new Command("eval", "pass@1 by running the programs, confined; reference solutions are checked first.")
        {
            tasks, model, completions, output, alpaca, tokens, dtype, device, json,
        };
        command.Subcommands.Add(EvalScoreCommand.Create());
        command.Subcommands.Add(EvalCompareCommand.Create());
        command.Subcommands.Add(EvalListCommand.Create());
        command.Subcommands.Add(EvalSandboxCommand.Create());
        command.Validators.Add(result =>
        {
            if (result.GetValue(model) is null == result.GetValue(completions) is null)
            {
                result.AddError("give --model DIR or --completions FILE, one of the two");
            }
        });
        command.SetAction(parsed =>
        {
            var list = HumanEvalTask.Read(parsed.GetValue(tasks)!);
            var folder = parsed.GetValue(output);
            if (folder is not null)
            {
                Directory.CreateDirectory(folder);
            }

            EvaluationSummary summary;
            if (parsed.GetValue(completions) is { } file)
            {
                var options = new EvaluationOptions { ResultsPath = folder is null ? null : Path.Combine(folder, "results.jsonl") };
                summary = Grader.EvaluateAsync(list, Sample.Read(file), options, CancellationToken.None).GetAwaiter().GetResult();
            }
            else
            {
                var answers = folder is null ? null : Path.Combine(folder, RunFiles.Answers);
                var format = parsed.GetValue(alpaca) ? PromptFormat.Alpaca : PromptFormat.Chat;
                using var stream = Devices.Open(parsed.GetValue(device)!);
                summary = parsed.GetValue(dtype) == "fp32"
                    ? PassAt1.Of<float>(stream, parsed.GetValue(model)!, format, list, parsed.GetValue(tokens), answers)
                    : PassAt1.Of<BFloat16>(stream, parsed.GetValue(model)!, format, list, parsed.GetValue(tokens), answers);
            }

            Print(summary, parsed.GetValue(json));
            return 0;
        });
        return command;
    }

    private static void Print(EvaluationSummary summary, bool asJson)
    {
        if (!asJson)
        {
            foreach (var kind in summary.Kinds)
            {
                Console.WriteLine($"{kind.Kind,-16} pass@1 {kind.PassAt1,7:P1}  [{kind.Interval.Low:P1}, {kind.Interval.High:P1}]  {kind.Tasks} tasks");
            }

            Console.WriteLine($"{"all",-16} pass@1 {summary.PassAt1,7:P1}  [{summary.Interval.Low:P1}, {summary.Interval.High:P1}]  {summary.Tasks.Count} tasks");
            Console.WriteLine(string.Join(", ", summary.Outcomes.Where(o => o.Value > 0).Select(o => $"{o.Key} {o.Value}")));
            Console.WriteLine($"time-outs run again alone: {summary.RunAgainAlone}, verdicts changed by it: {summary.ChangedVerdicts}");
            return;
        }

        CliJson.Write(json =>
        {
            json.WriteNumber("pass_at_1", summary.PassAt1);
            json.WriteNumber("low", summary.Interval.Low);
            json.WriteNumber("high", summary.Interval.High);
            json.WriteNumber("tasks", summary.Tasks.Count);
            json.WriteNumber("run_again_alone", summary.RunAgainAlone);
            json.WriteNumber("changed_verdicts", summary.ChangedVerdicts);
            summary.WriteGroups(json);
        });
    }
}
