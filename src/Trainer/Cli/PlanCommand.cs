using System.CommandLine;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 plan RECIPE</summary>
internal static class PlanCommand
{
    public static Command Create()
    {
        var recipe = new Argument<string>("recipe") { Description = "a recipe; its weights need not be there when it states model.shapes" };
        var set = SetOption();
        var memory = new Option<double>("--memory") { Description = "memory available, GiB; 0 takes this machine's" };
        var gemm = new Option<double>("--gemm") { Description = "GEMM rate, TFLOP/s; 0 measures this machine" };
        var bandwidth = new Option<double>("--bandwidth") { Description = "memory bandwidth, GB/s; 0 measures this machine" };
        var json = new Option<bool>("--json") { Description = "as JSON" };
        var command = new Command("plan", "Bytes by role and time per step of a run, before any memory is taken.") { recipe, set, memory, gemm, bandwidth, json };
        command.SetAction(parsed =>
        {
            var plan = TrainRecipe.Load(parsed.GetValue(recipe)!, parsed.GetValue(set)!);
            var config = Shapes(plan.Model);
            using var stream = new CpuStream();
            var (flops, bytes) = (parsed.GetValue(gemm) * 1e12, parsed.GetValue(bandwidth) * 1e9);
            if (flops <= 0 || bytes <= 0)
            {
                var roofs = Roofs.Measure(stream, quick: true);
                flops = flops > 0 ? flops : plan.DType == "fp32" ? roofs.GemmFlopsPerSecond<float>() : roofs.GemmFlopsPerSecond<BFloat16>();
                bytes = bytes > 0 ? bytes : roofs.CopyBytesPerSecond;
            }

            var available = parsed.GetValue(memory) > 0 ? (long)(parsed.GetValue(memory) * (1L << 30)) : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
            var stages = plan.Stages.Select(s => (s.Name, Plan: TrainPlan.Of(config, s, plan.DType, stream))).ToList();
            if (parsed.GetValue(json))
            {
                Json(stages, flops, bytes, available);
            }
            else
            {
                stages.ForEach(s => Print(s.Name, s.Plan, flops, bytes, available));
            }

            return 0;
        });
        return command;
    }

    public static Option<string[]> SetOption() => new("--set")
    {
        Description = "override a key of the recipe: --set a.b=value (repeatable; list entries by number)",
        AllowMultipleArgumentsPerToken = false,
        DefaultValueFactory = _ => [],
    };

    /// <summary>Refuses values outside the bounds as bad usage.</summary>
    public static void Within(Option<int> option, int minimum, int maximum) => option.Validators.Add(result =>
    {
        if (result.Tokens.Count == 0 || !int.TryParse(result.Tokens[0].Value, out var value))
        {
            return;                       // the default, or no number at all: the parser says so itself
        }

        if (value < minimum || value > maximum)
        {
            result.AddError($"{option.Name} {value}: must be from {minimum} to {maximum}");
        }
    });

    private static Qwen2Config Shapes(ModelSource model)
    {
        var config = model.Shapes is { } shapes && !(model.From is { } from && Directory.Exists(from)) ? shapes : Qwen2Config.Load(model.From!);
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
        var seconds = plan.SecondsPerStep(flops, bytes);
        Console.WriteLine(
            $"  step of {plan.TokensPerStep:N0} tokens (longest samples): {plan.FlopsPerStep / 1e12:F2} TFLOP; at {flops / 1e12:F3} TFLOP/s and {bytes / 1e9:F0} GB/s "
            + $"{seconds:F1} s, {plan.TokensPerStep / seconds:N0} tokens/s at best");
    }

    private static void Json(List<(string Name, TrainPlan Plan)> stages, double flops, double bytes, long available) => CliJson.Write(json =>
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
            json.WriteBoolean("fits", plan.TotalBytes <= available);
            json.WriteNumber("flops_per_step", plan.FlopsPerStep);
            json.WriteNumber("tokens_per_step", plan.TokensPerStep);
            json.WriteNumber("seconds_per_step", plan.SecondsPerStep(flops, bytes));
            json.WriteEndObject();
        }

        json.WriteEndArray();
    });
}
