using System.Diagnostics;
using System.Text;
using Xunit;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>Bad input is one sentence that names what and where, exit code 1 (2 for bad usage), and nothing saved is lost.</summary>
public sealed class BadInputTests
{
    [Fact]
    public void Bad_usage_exits_2()
    {
        Z1Here.Run().WasMisused();
        Z1Here.Run("trian").WasMisused("trian");
        Z1Here.Run("train").WasMisused("'train'");
        Z1Here.Run("train", "r.yaml", "--sett", "x").WasMisused("--sett");
        Z1Here.Run("train", "r.yaml", "--set", "no-equals-sign").WasMisused("--set no-equals-sign: write it as a.b=value");
        Z1Here.Run("train", "r.yaml", "--set", "=1").WasMisused("--set =1: write it as a.b=value");
        Z1Here.Run("generate", "--model", "m", "--chat", "--alpaca", "x").WasMisused("--chat and --alpaca");
        Z1Here.Run("tokenizer", "train", "f", "--out", "t", "--vocabulary", "10").WasMisused("--vocabulary 10: must be from 257");
        Z1Here.Run("selftest", "collectives", "--timeout", "-1").WasMisused("--timeout -1: must be above 0");
        Z1Here.Run("kernels", "tune").WasMisused("--device");
        Z1Here.Run("kernels", "tune", "--device", "cpu").WasMisused("no tile sizes to choose");
        Z1Here.Run("launch", "-n", "2", "--", "trian", "x").WasMisused("every rank would say", "trian");
        Z1Here.Run("launch", "-n", "2", "--restarts", "2", "--", "inspect", "x").WasMisused("--restarts goes on from a checkpoint");
        Z1Here.Run("perf", "run", "--suite", "steps", "--only", "tiny").WasMisused("--only tiny: no case of steps has it");
        Z1Here.Run("perf", "run", "--suite", "kernels", "decode", "--only", "mini", "--only", "no-such").WasMisused("--only no-such: no case of kernels, decode has it");
        Z1Here.Run("eval", "--tasks", "t.jsonl").WasMisused("one of the two");
        Z1Here.Run("eval", "--tasks", "t.jsonl", "--model", "m", "--completions", "c").WasMisused("one of the two");
        Z1Here.Run("generate", "--model", "m", "--dtype", "fp16", "x").WasMisused("fp16");
        Z1Here.Run("generate", "--model", "m", "--max-new-tokens", "0", "x").WasMisused("--max-new-tokens 0");
        Z1Here.Run("generate", "--model", "m", "--max-new-tokens", "many", "x").WasMisused("many");
        Z1Here.Run("generate", "--model", "m", "--temperature", "-1", "x").WasMisused("--temperature -1: must be from 0");
        Z1Here.Run("generate", "--model", "m", "--temperature", "0,8", "x").WasMisused("--temperature 0,8: decimals stand after a point");
        Z1Here.Run("curate", "filter", "f", "--out", "o", "--near", "0,8").WasMisused("--near 0,8: decimals stand after a point");
        Z1Here.Run("generate", "--model", "m", "--top-p", "0", "x").WasMisused("--top-p 0: must be above 0");
        Z1Here.Run("train", "r.yaml", "--timeout", "-5").WasMisused("--timeout -5: must be from 0");
        Z1Here.Run("train", "r.yaml", "--timeout", "0,5").WasMisused("--timeout 0,5: decimals stand after a point");
        Z1Here.Run("train", "r.yaml", "--stopped-exit-code", "256").WasMisused("--stopped-exit-code 256: must be from 0 to 255");
    }

    /// <summary>The parser would take them for words: of a prompt, of a list, of what each rank runs.</summary>
    [Theory]
    [InlineData("--temperature", "generate", "--model", "m", "--tempratur", "0.8", "hi")]
    [InlineData("--steps", "perf", "run", "--only", "Rope", "--stpes", "2")]
    [InlineData("--restarts", "launch", "-n", "1", "--restart", "3", "--", "inspect", "x")]
    [InlineData("--json", "inspect", "--jsn")]
    [InlineData("--json", "tokenizer", "encode", "--model", "m", "--jsn", "hi")]
    [InlineData("--slots", "eval", "--model", "m", "--data", "d", "--benchmark", "humaneval+", "--sloots", "3")]
    public void A_mistyped_option_is_refused_with_the_nearest(string nearest, params string[] command) =>
        Z1Here.Run(command).WasMisused("has no option", $"the nearest are '{nearest}'");

    /// <summary>Where a validator asks for the value, too.</summary>
    [Theory]
    [InlineData("--tasks", "eval", "--tasks")]
    [InlineData("--samples", "eval", "score", "--samples")]
    [InlineData("--benchmark", "eval", "--model", "x", "--benchmark")]
    [InlineData("--max-tokens", "curate", "filter", "a", "--out", "b", "--tokenizer", "t", "--max-tokens")]
    [InlineData("--suite", "perf", "run", "--suite")]
    public void An_option_without_its_value_is_bad_usage(string option, params string[] command) => Z1Here.Run(command).WasMisused(option);

    [Theory]
    [InlineData("--from 2024-09-01 --to 2024-08-01: no day is in between", "eval", "score", "--data", "d", "--reference", "--from", "2024-09-01", "--to", "2024-08-01")]
    [InlineData("--to is \"2024-02-30\"", "eval", "score", "--data", "d", "--reference", "--to", "2024-02-30")]
    [InlineData("--k 0: must be from 1", "eval", "score", "--data", "d", "--reference", "--k", "1", "--k", "0")]
    [InlineData("--floor-seconds 0: must be from 0.01", "eval", "score", "--data", "d", "--reference", "--floor-seconds", "0")]
    [InlineData("contains 'Argmax' and 'SwiGlu'", "perf", "run", "--suite", "kernels", "--only", "Argmax", "--only", "SwiGlu")]
    [InlineData("--backend tcp moves host memory, and this rank computes on hostcuda", "train", "r.yaml", "--device", "hostcuda", "--backend", "tcp")]
    [InlineData("--backend nccl moves memory of CUDA devices", "perf", "run", "--suite", "collectives", "--backend", "nccl")]
    [InlineData("--head-dim 12: must be a multiple of 8", "kernels", "tune", "--device", "hostcuda", "--head-dim", "12")]
    [InlineData("--vocabulary 256: must be from 257", "demo", "--vocabulary", "256")]
    [InlineData("--vocabulary 3000000: must be from 257", "tokenizer", "train", "f", "--out", "t", "--vocabulary", "3000000")]
    [InlineData("--teacher ftp://x: not an address", "curate", "evolve", "f", "--model", "m", "--out", "o", "--teacher", "ftp://x")]
    [InlineData("--top-p 2: must be from 0 to 1", "curate", "evolve", "f", "--model", "m", "--out", "o", "--teacher", "http://x/v1", "--top-p", "2")]
    [InlineData("'reply' is not one of prompt, response", "curate", "filter", "f", "--out", "o", "--fields", "prompt=q,reply=a")]
    [InlineData("--min-chars -1: must be from 0", "curate", "filter", "f", "--out", "o", "--min-chars", "-1")]
    [InlineData("--min-lines -1: must be from 0", "curate", "instructions", "f", "--list", "--min-lines", "-1")]
    public void A_value_that_is_wrong_on_its_face_is_bad_usage(string sentence, params string[] command) => Z1Here.Run(command).WasMisused(sentence);

    [Fact]
    public void What_stands_after_two_dashes_is_no_option() => Z1Here.Run("inspect", "--", "--jsn").FailedWith("--jsn: no such file");

    [Fact]
    public void Recipes()
    {
        using var tiny = new TinyRun();
        Z1Here.Run("train", tiny["none.yaml"]).FailedWith(tiny["none.yaml"], "no such recipe");
        Z1Here.Run("plan", tiny["none.yaml"]).FailedWith("no such recipe");
        Z1Here.Run("plan").WasMisused("a recipe, or --model");
        Z1Here.Run("plan", "--model", "7b", "--set", "train.lr=1").WasMisused("--set changes a key of a recipe");
        Z1Here.Run("plan", "--model", "7b", "--reserve", "-50").WasMisused("--reserve -50: must be from 0");
        Z1Here.Run("plan", "--model", "8b").WasMisused("'8b' is neither a model directory nor one of 0.5b, 1.5b");
        Z1Here.Run("plan", "--model", "7b", "--gpus", "2", "--link-bandwidth", "many").WasMisused("--link-bandwidth many: write it as IN:ACROSS");
        Z1Here.Run("plan", "--model", "7b", "--gpus", "0").WasMisused("--gpus 0: must be from 1");
        File.WriteAllText(tiny["broken.yaml"], "name: x\nstages: [\n");
        Z1Here.Run("train", tiny["broken.yaml"]).FailedWith("broken.yaml: line ", "YAML");
        File.WriteAllText(tiny["list.yaml"], "- a\n");
        Z1Here.Run("train", tiny["list.yaml"]).FailedWith("mapping");
        Refused(tiny, "train.leraning_rate=1", "unknown key 'stages.0.train.leraning_rate'");
        Refused(tiny, "train.wamup_steps=1", "did you mean 'stages.0.train.warmup_steps'?");
        Refused(tiny, "train.epochs=many", "'stages.0.train.epochs' is 'many', must be a number from 0");
        Refused(tiny, "train.batch_samples=0", "a whole number from 1");
        Refused(tiny, "train.loss=sum", "token-mean, micro-batch-mean");
        Refused(tiny, "train.recompute=everything", tiny.Recipe, "'stages.0.train.recompute' has 'everything'", "none, norm, swiglu, block");
        Refused(tiny, "train.lr=0,001", tiny.Recipe, "'stages.0.train.lr' is '0,001'");
        Refused(tiny, "dtype=fp16", "'dtype' is 'fp16'");
        Refused(tiny, "stages.7.name=x", "'7' is not an entry");
        Refused(tiny, "stages.1.name=stage1", "two stages are named 'stage1'");
        Refused(tiny, "stages.1.name=a/b", "'stages.1.name' is 'a/b', must be the name of a directory");
        Refused(tiny, "model.shapes.head_dim=7", tiny.Recipe, "'model.shapes.head_dim' is 7");
        Refused(tiny, "model.shapes.num_key_value_heads=3", tiny.Recipe, "num_key_value_heads' is 3, which does not divide num_attention_heads 2");
        Refused(tiny, "model.shapes={}", "hidden_size");
        Assert.False(Directory.Exists(tiny["run"]), "a recipe that is refused makes no directory");
    }

    [Fact]
    public void Data_and_tokenizers()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(1);
        var data = tiny["stage1.jsonl"];
        var lines = File.ReadAllLines(data);
        Refused(tiny, $"stages.0.data.files={tiny["none.jsonl"]}", "none.jsonl");
        Refused(tiny, "stages.0.data.files=[]", tiny.Recipe, "data.files of stage1 names no file");
        Refused(tiny, $"tokenizer.from={tiny["none"]}", tiny.Recipe, $"tokenizer.from is '{tiny["none"]}': no such file or directory");
        Refused(tiny, $"tokenizer.from={tiny.Folder}", tiny.Recipe, $"tokenizer.from is '{tiny.Folder}', which holds no tokenizer.json");
        Refused(tiny, $"tokenizer.template={tiny["none.jinja"]}", tiny.Recipe, $"tokenizer.template is '{tiny["none.jinja"]}': no such file");
        Refused(tiny, "train.micro_batch_tokens=20", "the longest sample has", "train.micro_batch_tokens is 20");
        Refused(tiny, "model.shapes.max_position_embeddings=16", "context 16");
        Refused(tiny, "model.shapes.vocab_size=100", "the model has 100 vocabulary rows");
        File.WriteAllText(data, "");
        Refused(tiny, "seed=4", "stage1.jsonl", "no sample");
        File.WriteAllLines(data, [lines[0], "{\"question\": ", lines[1]]);
        Refused(tiny, "seed=4", "stage1.jsonl line 2: ");
        Refused(tiny, "tokenizer={}", tiny.Recipe, "tokenizer.from is missing", "z1 demo");
        File.WriteAllLines(data, lines);
        File.WriteAllText(Path.Combine(tiny["tokenizer"], "tokenizer.json"), "{\"model\": 3}");
        Refused(tiny, "seed=4", "tokenizer.json");

        // none of these left anything that stands in the way of the right command
        using var other = new TinyRun();
        File.Copy(Path.Combine(other["tokenizer"], "tokenizer.json"), Path.Combine(tiny["tokenizer"], "tokenizer.json"), overwrite: true);
        Z1Here.Run(tiny.Train("run")).Succeeded();
    }

    [Fact]
    public void Models()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(1);
        Z1Here.Run(tiny.Train("first")).Succeeded();
        var model = Path.Combine(tiny["first"], "stage1", "model");
        var (weights, config) = (Path.Combine(model, "model.safetensors"), Path.Combine(model, "config.json"));
        var (bytes, json) = (File.ReadAllBytes(weights), File.ReadAllText(config));
        string[] from = ["--set", $"model={{from: {model}}}"];

        File.WriteAllBytes(weights, bytes[..^10]);
        Each("model.safetensors");
        var lying = (byte[])bytes.Clone();
        BitConverter.TryWriteBytes(lying, long.MaxValue);
        File.WriteAllBytes(weights, lying);
        Each("model.safetensors");
        BitConverter.TryWriteBytes(lying, (long)bytes.Length);
        File.WriteAllBytes(weights, lying);
        Each("model.safetensors");
        File.WriteAllBytes(weights, [.. BitConverter.GetBytes(40L), .. Encoding.UTF8.GetBytes("{\"x\":{\"dtype\":\"BF16\",\"shape\":[99999999999,99999999999],\"data_offsets\":[0,1]}}")]);
        Each("model.safetensors");
        File.Delete(weights);
        Each(model);
        File.WriteAllBytes(weights, bytes);
        File.WriteAllText(config, json.Replace("qwen2", "mistral", StringComparison.Ordinal));
        Each("config.json", "mistral", "supported are");
        File.WriteAllText(config, "{");
        Each("config.json");
        File.WriteAllText(config, json);
        Z1Here.Run("generate", "--model", tiny["none"], "x").FailedWith(tiny["none"]);
        Z1Here.Run(tiny.Train("second", "--set", $"model={{from: {tiny["none"]}}}")).FailedWith(tiny.Recipe, $"model.from is '{tiny["none"]}': no such directory");
        Z1Here.Run(tiny.Train("second", "--set", $"model={{from: {tiny["none"]}}}", "--set", "tokenizer={}"))
            .FailedWith(tiny.Recipe, $"model.from is '{tiny["none"]}': no such file or directory");
        Z1Here.Run(tiny.Train("second", from)).Succeeded();

        void Each(params string[] parts)
        {
            Z1Here.Run(tiny.Train("second", from)).FailedWith(parts);
            Z1Here.Run("generate", "--model", model, "x").FailedWith(parts);
            Z1Here.Run("inspect", model).FailedWith(parts);
        }
    }

    [Fact]
    public void Run_directories()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(2);
        File.WriteAllText(tiny["file"], "x");
        Z1Here.Run(tiny.Train("file")).FailedWith(tiny["file"], "cannot write");
        Z1Here.Run(tiny.Train("file/below")).FailedWith("cannot write");
        Z1Here.Run(tiny.Train("run")).Succeeded();
        var before = tiny.Metrics("run", "stage1");
        Z1Here.Run(tiny.Train("run")).FailedWith(tiny["run"], "already holds a run", "--resume");
        Z1Here.Run(tiny.Train("run", "--resume", "--set", "train.lr=2e-2")).FailedWith("recipe.resolved.yaml: line ", "0.02", "keeps its recipe");
        Z1Here.Run(tiny.Train("run", "--set", "stages.0.name=other")).FailedWith("already holds a run");
        Assert.Equal(before, tiny.Metrics("run", "stage1"));

        // what a start that failed before any step has left is begun anew, also by a scheduler that always resumes
        Z1Here.Run(tiny.Train("early", "--resume", "--set", $"stages.0.data.files={tiny["none.jsonl"]}")).FailedWith("none.jsonl");
        Assert.True(File.Exists(Path.Combine(tiny["early"], "recipe.resolved.yaml")));
        Z1Here.Run(tiny.Train("early", "--resume")).Succeeded();
        Assert.Equal(before, tiny.Metrics("early", "stage1"));
        Z1Here.Run("report", tiny["none"]).FailedWith("not a run");
        Z1Here.Run("inspect", tiny["none"]).FailedWith("no such file or directory");
        Z1Here.Run("inspect", tiny["tokenizer"]).FailedWith("no checkpoint");
    }

    [Fact]
    public void A_checkpoint_of_another_model_is_refused_and_a_damaged_one_passed_over()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(8);
        Z1Here.Run(tiny.Train("whole")).Succeeded();
        Z1Here.Run(tiny.Train("run")).Succeeded();
        Directory.Delete(Path.Combine(tiny["run"], "stage1", "model"), recursive: true);
        var checkpoints = Path.Combine(tiny["run"], "stage1", "checkpoints");
        Assert.Equal(["step-00000006", "step-00000008"], Directory.GetDirectories(checkpoints).Select(Path.GetFileName).Order());
        Z1Here.Run("inspect", checkpoints).Succeeded();

        var master = Path.Combine(checkpoints, "step-00000008", "master.00000-of-00001.safetensors");
        var bytes = File.ReadAllBytes(master);
        bytes[^1] ^= 1;
        File.WriteAllBytes(master, bytes);
        var seen = Z1Here.Run("inspect", checkpoints);
        Assert.Equal(1, seen.ExitCode);
        Assert.Contains("step 6: verified", seen.Output);
        Assert.Contains("step 8: the content of master.00000-of-00001.safetensors does not match", seen.Output);
        var resumed = Z1Here.Run(tiny.Train("run", "--resume")).Succeeded();
        Assert.Contains("passed over", resumed.Output);
        Assert.Contains("continues after step 6", resumed.Output);
        Assert.Equal(tiny.Metrics("whole", "stage1"), tiny.Metrics("run", "stage1"));

        Directory.Delete(Path.Combine(tiny["run"], "stage1", "model"), recursive: true);
        var recipe = Path.Combine(tiny["run"], "recipe.resolved.yaml");
        File.WriteAllText(recipe, File.ReadAllText(recipe).Replace("intermediate_size: 32", "intermediate_size: 48", StringComparison.Ordinal));
        Z1Here.Run(tiny.Train("run", "--resume", "--set", "model.shapes.intermediate_size=48")).FailedWith("a checkpoint of another model");
        Assert.Equal(["step-00000006", "step-00000008"], Directory.GetDirectories(checkpoints).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void A_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room()
    {
        using var tiny = new TinyRun();
        Directory.CreateDirectory(tiny["disk"]);
        if (Shell("mount", "-t", "tmpfs", "-o", "size=440k", "z1-test", tiny["disk"]) != 0)
        {
            Assert.Skip("mounting a small file system needs root");
        }

        try
        {
            Z1Here.Run(tiny.Train("whole")).Succeeded();
            var error = Z1Here.Run(tiny.Train("disk/run")).FailedWith(tiny["disk"]).Error;
            Assert.Contains("No space left", error);
            Assert.Equal(0, Shell("mount", "-o", "remount,size=16m", tiny["disk"]));
            var checkpoints = Path.Combine(tiny["disk/run"], "stage1", "checkpoints");
            Assert.NotEmpty(Directory.GetDirectories(checkpoints));
            Z1Here.Run("inspect", checkpoints).Succeeded();
            Z1Here.Run(tiny.Train("disk/run", "--resume")).Succeeded();
            Assert.Equal(tiny.Metrics("whole"), tiny.Metrics("disk/run"));
            Assert.Equal(tiny.FinalModel("whole"), tiny.FinalModel("disk/run"));
        }
        finally
        {
            Shell("umount", tiny["disk"]);
        }
    }

    [Fact]
    public void Tasks_and_completions()
    {
        using var tiny = new TinyRun();
        Tasks.Write(tiny["tasks.jsonl"], 2);
        var lines = File.ReadAllLines(tiny["tasks.jsonl"]);
        Z1Here.Run("eval", "--tasks", tiny["none.jsonl"], "--completions", tiny["c.jsonl"]).FailedWith("none.jsonl");
        Z1Here.Run("eval", "--tasks", tiny["tasks.jsonl"], "--completions", tiny["c.jsonl"]).FailedWith("c.jsonl");
        Tasks.WriteAnswers(tiny["c.jsonl"], 1, 1);
        Z1Here.Run("eval", "--tasks", tiny["tasks.jsonl"], "--completions", tiny["c.jsonl"]).FailedWith("T/1");
        File.WriteAllLines(tiny["tasks.jsonl"], [lines[0], "{\"task_id\": "]);
        Z1Here.Run("eval", "--tasks", tiny["tasks.jsonl"], "--model", tiny["none"]).FailedWith("tasks.jsonl:2");
        Refused(tiny, $"eval.tasks={tiny["tasks.jsonl"]}", "tasks.jsonl:2");
    }

    private static void Refused(TinyRun tiny, string set, params string[] parts)
    {
        string[] overrides = set.StartsWith("train.", StringComparison.Ordinal) || set.StartsWith("eval.", StringComparison.Ordinal)
            ? ["--set", $"stages.0.{set}"]
            : ["--set", set];
        Z1Here.Run(tiny.Train("run", overrides)).FailedWith(parts);
    }

    private static int Shell(string program, params string[] arguments)
    {
        try
        {
            var start = new ProcessStartInfo(program, arguments) { RedirectStandardError = true };
            using var process = Process.Start(start)!;
            process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return -1;
        }
    }
}
