using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Xunit;
using Z1Coder.Trainer.Checkpoints;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>Interrupted and resumed is uninterrupted, bit for bit, wherever the interruption falls.</summary>
public sealed class ResumeTests
{
    private const int Kills = 20, Terminations = 8, MostLines = 14, MostMilliseconds = 60;

    [Fact]
    public void Twenty_kills_at_random_moments_change_no_bit()
    {
        using var tiny = new TinyRun();
        Z1Here.Run(tiny.Train("whole")).Succeeded();
        var (model, metrics) = (tiny.FinalModel("whole"), tiny.Metrics("whole"));
        Assert.Equal(2 * (TinyRun.StepsPerStage + 3), metrics.Count);            // a line a step, held-out loss after steps 4, 8 and 12

        var random = new Random(1);
        var (kills, runs, inTraining) = (0, 0, 0);
        var directory = "run0";
        while (kills < Kills)
        {
            using var z1 = Z1.Start(tiny.Train(directory, "--resume"));
            var shown = z1.WaitForLines(random.Next(MostLines));
            Thread.Sleep(random.Next(MostMilliseconds));
            z1.Kill();
            var result = z1.Wait();
            if (result.ExitCode == 0)
            {
                Same(tiny, directory, model, metrics);
                directory = $"run{++runs}";
                continue;
            }

            Assert.Empty(result.Error);
            kills++;
            inTraining += shown && result.Output.Contains(" step ", StringComparison.Ordinal) ? 1 : 0;
        }

        Z1Here.Run(tiny.Train(directory, "--resume")).Succeeded();
        Same(tiny, directory, model, metrics);
        Assert.True(inTraining >= Kills / 4, $"only {inTraining} of {Kills} kills fell into training: the moments are badly chosen");
    }

    [Fact]
    public void A_termination_saves_and_exits_0_and_the_resumed_run_has_the_same_bits()
    {
        using var tiny = new TinyRun();
        Z1Here.Run(tiny.Train("whole")).Succeeded();
        var random = new Random(2);
        var stopped = 0;
        for (var run = 0; stopped < Terminations; run++)
        {
            var directory = $"run{run}";
            for (var complete = false; !complete;)
            {
                var environment = Path.Combine(tiny[directory], "environment.json");
                if (File.Exists(environment))
                {
                    File.Delete(environment);
                }

                using var z1 = Z1.Start(tiny.Train(directory, "--resume"));
                SpinWait.SpinUntil(() => File.Exists(environment) || z1.HasExited);      // the runtime is up, and it listens
                z1.WaitForLines(random.Next(MostLines));
                Thread.Sleep(random.Next(MostMilliseconds));
                z1.Terminate();
                var result = z1.Wait();
                complete = Directory.Exists(Path.Combine(tiny[directory], "stage2", "model"));
                if (complete && result.ExitCode == 143)
                {
                    break;                        // the signal came after the last line of the program
                }

                result.Succeeded();
                if (!complete)
                {
                    Assert.Contains("stopped by SIGTERM", result.Output);
                    Assert.Contains("continue with --resume", result.Output);
                    stopped++;
                }
            }

            Same(tiny, directory, tiny.FinalModel("whole"), tiny.Metrics("whole"));
        }
    }

    [Fact]
    public void A_termination_while_data_are_read_is_heard_before_all_are_read()
    {
        using var tiny = new TinyRun();
        var line = File.ReadAllLines(tiny["stage1.jsonl"])[0];
        File.WriteAllLines(tiny["stage1.jsonl"], Enumerable.Range(0, 150_000).Select(i =>
            line.Replace("stage1-0", $"s-{i}", StringComparison.Ordinal).Replace("Add 0", $"Add {i}", StringComparison.Ordinal)));
        using var z1 = Z1.Start(tiny.Train("run", "--stopped-exit-code", "75"));
        SpinWait.SpinUntil(() => Directory.Exists(Path.Combine(tiny["run"], "stage1")) || z1.HasExited);
        z1.Terminate();
        var result = z1.Wait();
        Assert.Equal((75, ""), (result.ExitCode, result.Error));
        Assert.Contains("stopped by SIGTERM while reading its data", result.Output);
        Assert.DoesNotContain(" step ", result.Output);
    }

    [Fact]
    public void A_termination_while_pass_at_1_is_measured_is_heard_and_the_measurement_is_made_up_for()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(3);
        Tasks.Write(tiny["tasks.jsonl"], 8);
        string[] set = ["--set", $"eval.tasks={tiny["tasks.jsonl"]}", "--set", "eval.pass_every=2", "--set", "eval.max_new_tokens=64"];
        var whole = Z1.Run(tiny.Train("whole", set));
        if (whole.Error.Contains("bubblewrap", StringComparison.Ordinal))
        {
            Assert.Skip(whole.Error);
        }

        whole.Succeeded();
        var directory = "";
        for (var again = 0; directory.Length == 0; again++)
        {
            Assert.True(again < 10, "it ended before the signal each time");
            using var z1 = Z1.Start(tiny.Train($"run{again}", set));
            z1.WaitForLines(5);                   // two of data, pass@1 before the first step, two steps: it is measuring again
            z1.Terminate();
            var result = z1.Wait();               // 143 where the signal came after the last line of the program
            if (!result.Output.Contains("stage1 step 3/", StringComparison.Ordinal))
            {
                Assert.Contains("stopped by SIGTERM", result.Succeeded().Output);
                Assert.Contains("stage1 step 2 saved", result.Output);
                directory = $"run{again}";
            }
        }

        Z1.Run(tiny.Train(directory, [.. set, "--resume"])).Succeeded();
        Assert.Equal(tiny.Metrics("whole", "stage1"), tiny.Metrics(directory, "stage1"));
    }

    [Fact]
    public void Changed_data_are_refused_before_anything_is_written()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(8);
        Z1Here.Run(tiny.Train("whole")).Succeeded();
        Z1Here.Run(tiny.Train("run")).Succeeded();
        var stage = Path.Combine(tiny["run"], "stage1");
        Directory.Delete(Path.Combine(stage, "model"), recursive: true);
        Directory.Delete(Path.Combine(stage, "checkpoints", "step-00000008"), recursive: true);
        string[] files = [Path.Combine(tiny["run"], "environment.json"), Path.Combine(stage, "data-report.json"), Path.Combine(stage, "metrics.jsonl")];
        var before = files.Select(File.ReadAllText).ToList();
        var lines = File.ReadAllLines(tiny["stage1.jsonl"]);

        File.AppendAllText(tiny["stage1.jsonl"], lines[0].Replace("Add 0", "Add 77", StringComparison.Ordinal).Replace("stage1-0", "stage1-77", StringComparison.Ordinal) + "\n");
        Refused("step-00000006: made on ", " samples and ", "the recipe's files now give ", "put them back");
        File.WriteAllLines(tiny["stage1.jsonl"], lines[..20]);
        Refused("for 8 steps, ", "for ");
        File.WriteAllLines(tiny["stage1.jsonl"], [lines[1], lines[0], .. lines[2..]]);          // the same counts
        Refused("SHA-256");
        File.WriteAllLines(tiny["stage1.jsonl"], lines);
        var config = Path.Combine(tiny["tokenizer"], "tokenizer_config.json");
        var template = File.ReadAllText(config);
        File.WriteAllText(config, template.Replace("assistant", "model", StringComparison.Ordinal));
        Refused("the tokenizer or its template have changed");
        File.WriteAllText(config, template);

        // a checkpoint of before the data were kept in it goes on
        var checkpoint = Path.Combine(stage, "checkpoints", "step-00000006");
        var progress = JsonNode.Parse(File.ReadAllText(Path.Combine(checkpoint, "progress.json")))!.AsObject();
        Assert.True(progress.Remove("data"));
        var old = Encoding.UTF8.GetBytes(progress.ToJsonString());
        File.WriteAllBytes(Path.Combine(checkpoint, "progress.json"), old);
        var manifest = CheckpointManifest.Load(DiskFiles.Instance, Path.Combine(checkpoint, CheckpointManifest.FileName));
        manifest = manifest with
        {
            Files = [.. manifest.Files.Select(f => f.Name == "progress.json" ? new CheckpointFile(f.Name, old.Length, Convert.ToHexStringLower(SHA256.HashData(old))) : f)],
        };
        File.WriteAllBytes(Path.Combine(checkpoint, CheckpointManifest.FileName), manifest.ToJson());
        var resumed = Z1Here.Run(tiny.Train("run", "--resume")).Succeeded();
        Assert.Contains("continues after step 6", resumed.Output);
        Assert.Contains("does not say what it was trained on", resumed.Output);
        Assert.Equal(tiny.Metrics("whole", "stage1"), tiny.Metrics("run", "stage1"));

        void Refused(params string[] parts)
        {
            Z1Here.Run(tiny.Train("run", "--resume")).FailedWith(parts);
            Assert.Equal(before, files.Select(File.ReadAllText));
        }
    }

    [Fact]
    public void A_complete_run_resumes_to_nothing()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(2);
        Z1Here.Run(tiny.Train("run")).Succeeded();
        var before = tiny.Metrics("run", "stage1");
        Assert.DoesNotContain(" step ", Z1Here.Run(tiny.Train("run", "--resume")).Succeeded().Output);
        Assert.Equal(before, tiny.Metrics("run", "stage1"));
    }

    private static void Same(TinyRun tiny, string directory, byte[] model, List<string> metrics)
    {
        Assert.Equal(metrics, tiny.Metrics(directory));
        Assert.True(model.AsSpan().SequenceEqual(tiny.FinalModel(directory)), $"{directory}: the final model differs");
    }
}
