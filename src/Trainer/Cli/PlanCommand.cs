using System.CommandLine;
using System.Globalization;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 plan RECIPE, or z1 plan --model NAME --gpus N</summary>
internal static class PlanCommand
{
    private const double DefaultTeraflops = 650, DefaultBandwidth = 2700, DefaultMemory = 80;

    public static Command Create()
    {
        var recipe = new Argument<string?>("recipe")
        {
            Description = "a recipe; its weights need not be there when it states model.shapes", Arity = ArgumentArity.ZeroOrOne,
        };
        var set = SetOption();
        var model = new Option<string?>("--model") { Description = $"instead of a recipe, or of its model: a model directory, or {string.Join(", ", KnownModels.Names)}" };
        var gpus = new Option<int>("--gpus") { Description = "plan for so many GPUs of a cluster, every strategy compared; without it a recipe is planned for one process here, and --model for one GPU" };
        var perNode = new Option<int>("--gpus-per-node") { Description = "GPUs of a node", DefaultValueFactory = _ => 8 };
        var links = new Option<string>("--link-bandwidth")
        {
            Description = "IN:ACROSS, GB/s: of one GPU inside a node, of a whole node to the others", DefaultValueFactory = _ => "360:400",
        };
        var memory = new Option<double>("--memory") { Description = "memory available, GiB; 0 takes this machine's, or 80 for each GPU of a cluster" };
        var reserve = new Option<double>("--reserve")
        {
            Description = "GiB of each GPU that driver, libraries and NCCL take", DefaultValueFactory = _ => 2,
        };
        var gemm = new Option<double>("--gemm") { Description = "GEMM rate, TFLOP/s; 0 measures this machine, or takes 650 for a cluster" };
        var bandwidth = new Option<double>("--bandwidth") { Description = "memory bandwidth, GB/s; 0 measures this machine, or takes 2700 for a cluster" };
        var length = new Option<int>("--length") { Description = "tokens of the longest sample, when there is no recipe",
            DefaultValueFactory = _ => 1280 };
        var batch = new Option<int>("--batch") { Description = "samples of a step, when there is no recipe",
            DefaultValueFactory = _ => 1024 };
        var json = new Option<bool>("--json") { Description = "as JSON" };
        foreach (var option in new[] { memory, reserve, gemm, bandwidth })
        {
            Within(option, 0, 1e9);
        }

        links.Validators.Add(result =>
        {
            if (result.Tokens.Count > 0 && Links(result.Tokens[0].Value) is null)
            {
                result.AddError($"--link-bandwidth {result.Tokens[0].Value}: write it as IN:ACROSS in GB/s, 360:400 say");
            }
        });
        Readable(model, name => _ = Directory.Exists(name) ? null : KnownModels.Find(name));
        Within(gpus, 1, 1 << 16);
        Within(perNode, 1, 1 << 10);
        Within(length, 2, 1 << 20);
        Within(batch, 1, 1 << 20);
        var command = new Command("plan",
            """
            Bytes by role, bytes sent and time per step, before any memory is taken; on how many GPUs it fits, and how.

              z1 plan recipes/z1-coder-1.5b.yaml
              z1 plan --model 7b --gpus 8
            """)
        {
            recipe, set, model, gpus, perNode, links, memory, reserve, gemm, bandwidth, length, batch, json,
        };
        command.Validators.Add(result =>
        {
            var (hasRecipe, hasModel) = (result.GetResult(recipe) is { Tokens.Count: > 0 }, result.GetResult(model) is { Tokens.Count: > 0 });
            if (!hasRecipe && !hasModel)
            {
                result.AddError($"z1 plan needs a recipe, or --model with a model directory or one of {string.Join(", ", KnownModels.Names)}");
            }
            else if (!hasRecipe && result.GetResult(set) is { Tokens.Count: > 0 })
            {
                result.AddError("--set changes a key of a recipe, and none is given");
            }
        });
        command.SetAction(parsed =>
        {
            var plan = parsed.GetValue(recipe) is { } file ? TrainRecipe.Load(file, parsed.GetValue(set)!) : null;
            var (name, count) = (parsed.GetValue(model), parsed.GetValue(gpus));
            var config = name is null ? Shapes(plan!.Model) : Directory.Exists(name) ? Qwen2Config.Load(name) : KnownModels.Find(name);
            var (flops, bytes) = (parsed.GetValue(gemm) * 1e12, parsed.GetValue(bandwidth) * 1e9);
            if (count == 0 && name is null)
            {
                OneProcess(plan!, config, flops, bytes, parsed.GetValue(memory), parsed.GetValue(json));
                return 0;
            }

            var (inside, across) = Links(parsed.GetValue(links)!)!.Value;
            var cluster = new ClusterShape(
                Math.Max(1, count), parsed.GetValue(perNode), Bytes(parsed.GetValue(memory) > 0 ? parsed.GetValue(memory) : DefaultMemory),
                Bytes(parsed.GetValue(reserve)), inside * 1e9, across * 1e9, flops > 0 ? flops : DefaultTeraflops * 1e12,
                bytes > 0 ? bytes : DefaultBandwidth * 1e9);
            var stages = plan?.Stages ?? [Published(parsed.GetValue(length), parsed.GetValue(batch))];
            ClusterPlan.Write(config, plan?.DType ?? "bf16", stages, isRecipe: plan is not null, cluster, parsed.GetValue(json));
            return 0;
        });
        return command;
    }

    public static Option<string[]> SetOption()
    {
        var option = new Option<string[]>("--set")
        {
            Description = "override a key of the recipe: --set a.b=value (repeatable; of every stage, or of one by its number: stages.0.train.lr=1e-3)",
            AllowMultipleArgumentsPerToken = false,
            DefaultValueFactory = _ => [],
        };
        option.Validators.Add(result =>
        {
            if (result.Tokens.FirstOrDefault(t => t.Value.IndexOf('=', StringComparison.Ordinal) < 1) is { } wrong)
            {
                result.AddError($"--set {wrong.Value}: write it as a.b=value");
            }
        });
        return option;
    }

    /// <summary>Refuses values outside the bounds as bad usage; what is no number at all the parser refuses itself.</summary>
    /// <param name="option">of a whole number or a double</param>
    /// <param name="minimum">the least value</param>
    /// <param name="maximum">the largest value</param>
    /// <param name="above">whether the minimum itself is refused too</param>
    public static void Within(Option option, double minimum, double maximum, bool above = false) => option.Validators.Add(result =>
    {
        foreach (var token in result.Tokens)
        {
            if (double.TryParse(token.Value, NumberStyles.Float, CultureInfo.InvariantCulture, out var value)
                && !((above ? value > minimum : value >= minimum) && value <= maximum))
            {
                result.AddError(string.Create(
                    CultureInfo.InvariantCulture, $"{option.Name} {value}: must be {(above ? $"above {minimum} and at most" : $"from {minimum} to")} {maximum}"));
                return;
            }
        }
    });

    /// <summary>Refuses as bad usage what the reader of a value refuses, in the reader's words.</summary>
    /// <param name="option">of text</param>
    /// <param name="read">throws <see cref="InvalidInputException"/> for a value that is wrong on its face</param>
    public static void Readable(Option option, Action<string> read) => option.Validators.Add(result =>
    {
        try
        {
            result.Tokens.ToList().ForEach(t => read(t.Value));
        }
        catch (InvalidInputException e)
        {
            result.AddError(e.Message);
        }
    });

    private static void OneProcess(TrainRecipe plan, Qwen2Config config, double flops, double bytes, double memory, bool json)
    {
        using var stream = new CpuStream();
        if (flops <= 0 || bytes <= 0)
        {
            var roofs = Roofs.Measure(stream, quick: true);
            flops = flops > 0 ? flops : plan.DType == "fp32" ? roofs.GemmFlopsPerSecond<float>() : roofs.GemmFlopsPerSecond<BFloat16>();
            bytes = bytes > 0 ? bytes : roofs.CopyBytesPerSecond;
        }

        var available = memory > 0 ? Bytes(memory) : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        var stages = plan.Stages.Select(s => (s.Name, Plan: TrainPlan.Of(config, s, plan.DType, stream))).ToList();
        if (json)
        {
            Json(stages, flops, bytes, available);
        }
        else
        {
            stages.ForEach(s => Print(s.Name, s.Plan, flops, bytes, available));
        }
    }

    private static long Bytes(double gib) => (long)(gib * (1L << 30));

    private static (double Inside, double Across)? Links(string text)
    {
        var parts = text.Split(':');
        return parts.Length is 1 or 2 && Rate(parts[0]) is { } inside && Rate(parts[^1]) is { } across ? (inside, across) : null;
    }

    private static double? Rate(string text) =>
        double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var rate) && rate > 0 && double.IsFinite(rate) ? rate : null;

    /// <summary>A stage with the published run's batch and every default, for a plan without a recipe.</summary>
    private static StageRecipe Published(int length, int batch)
    {
        var empty = RecipeTree.Parse("plan", "{}", []);
        return new StageRecipe(
            "step", new DatasetOptions { MaxLength = length }, OptimizeRecipe.From(empty) with { BatchSamples = batch,
            MicroBatchTokens = length },
            GuardRecipe.From(empty), EvalRecipe.From(empty), CheckpointRecipe.From(empty));
    }

    private static Qwen2Config Shapes(ModelSource model)
    {
        var config = model.Shapes is { } shapes && !(model.From is { } from && Directory.Exists(from))
            ? shapes : Qwen2Config.Load(model.From!);
        if (config.VocabSize == 0)
        {
            throw new InvalidInputException("model.shapes.vocab_size is 0 (the tokenizer's): give a number to plan with, --set model.shapes.vocab_size=N");
        }

        return model.VocabRows > 0 ? config with { VocabSize = model.VocabRows } : config;
    }

    private static void Print(string stage, TrainPlan plan, double flops, double bytes, long available)
    {
        Console.WriteLine($"{stage}: {plan.Parameters:N0} parameters");
        foreach (var (role, size) in plan.Roles)
        {
            Console.WriteLine($"  {role,-16} {size / (double)(1 << 30),10:F3} GiB");
        }

        Console.WriteLine($"  {"total",-16} {plan.TotalBytes / (double)(1 << 30),10:F3} GiB of {available / (double)(1 << 30):F1} GiB: {(plan.TotalBytes <= available ? "fits" : "does NOT fit")}");
        foreach (var (role, size) in plan.HostRoles)
        {
            Console.WriteLine($"  {role,-16} {size / (double)(1 << 30),10:F3} GiB of host memory beside it");
        }

        var seconds = plan.SecondsPerStep(flops, bytes);
        Console.WriteLine(
            $"  step of {plan.TokensPerStep:N0} tokens (longest samples): {plan.FlopsPerStep / 1e12:F2} TFLOP; at {flops / 1e12:F3} TFLOP/s and {bytes / 1e9:F0} GB/s "
            + $"{seconds:F1} s, {plan.TokensPerStep / seconds:N0} tokens/s at best");
    }

    private static void Json(List<(string Name, TrainPlan Plan)> stages, double flops, double bytes,
        long available) => CliJson.Write(json =>
    {
        json.WriteNumber("gemm_flops_per_second", flops);
        json.WriteNumber("bytes_per_second", bytes);
        json.WriteNumber("available_bytes", available);
        json.WriteStartArray("stages");
        foreach (var (name, plan) in stages)
        {
            json.WriteStartObject();
            json.WriteString("name", name);
            json.WriteNumber("parameters", plan.Parameters);
            json.WriteStartObject("bytes");
            foreach (var (role, size) in plan.Roles)
            {
                json.WriteNumber(role, size);
            }

            json.WriteEndObject();
            json.WriteNumber("total_bytes", plan.TotalBytes);
            json.WriteNumber("host_bytes", plan.HostBytes);
            json.WriteBoolean("fits", plan.TotalBytes <= available);
            json.WriteNumber("flops_per_step", plan.FlopsPerStep);
            json.WriteNumber("tokens_per_step", plan.TokensPerStep);
            json.WriteNumber("seconds_per_step", plan.SecondsPerStep(flops, bytes));
            json.WriteEndObject();
        }

        json.WriteEndArray();
    });
}
