using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Train;

/// <summary>A run: the stages of a recipe one after another, each from the last one's model, in one directory.</summary>
public static class TrainRun
{
    /// <summary>Trains, or goes on with --resume. Stages that are complete are not run again.</summary>
    /// <param name="recipe">what to train</param>
    /// <param name="directory">the run's directory; must be new or empty unless <paramref name="resume"/></param>
    /// <param name="resume">continue the run in the directory, to the same bits as if it had not been interrupted</param>
    /// <param name="stream">where it runs; not part of the recipe, so that a run may go on elsewhere</param>
    /// <param name="ranks">all ranks, each of which calls this with the same recipe and directory; not part of the recipe either</param>
    /// <param name="output">plain lines for a person, on rank 0; the others say nothing</param>
    /// <param name="profilePath">where a Chrome trace of a few steps goes; null for none; CUDA streams only</param>
    /// <returns>whether the run is complete; false when a signal stopped it, with everything saved</returns>
    public static bool Execute(
        TrainRecipe recipe, string directory, bool resume, ComputeStream stream, RankWorld ranks, TextWriter output, string? profilePath = null)
    {
        if (stream is CudaStream && recipe.DType == "fp32")
        {
            throw new InvalidInputException("dtype: fp32 runs on the CPU only; set dtype: bf16 (masters, moments and gradients are fp32 in either)");
        }

        if (profilePath is not null && stream is not CudaStream)
        {
            throw new InvalidInputException("--profile traces a CUDA stream; give --device cuda too");
        }

        using var stop = new StopSignal();
        ranks.OnFirst(() => Open(recipe, directory, resume, output));
        var tokenizer = recipe.TokenizerFrom ?? recipe.Model.From
            ?? throw new InvalidInputException("the recipe's tokenizer.from is missing: random weights bring no tokenizer of their own");
        var (plain, peak) = (tokenizer, new GemmPeak(1, null));
        tokenizer = recipe.TemplateFrom is null ? plain : Path.Combine(directory, "tokenizer");
        ranks.OnFirst(() =>
        {
            WithTemplate(plain, recipe.TemplateFrom, tokenizer);
            // of this rank, while no other computes; only rank 0 reports MFU
            var gemm = Gemm();
            peak = new GemmPeak(ranks.Size * gemm, stream is CpuStream ? () => ranks.Size * Gemm() : null);
            RunEnvironment.Write(Path.Combine(directory, RunFiles.Environment), recipe, tokenizer, stream, ranks, gemm);
        });
        double Gemm() => recipe.DType == "fp32" ? Roofs.MeasureGemm<float>(stream) : Roofs.MeasureGemm<BFloat16>(stream);
        var context = new TrainContext(
            recipe, tokenizer, stream, ranks, peak, resume, stop, ranks.IsFirst ? output : TextWriter.Null, ranks.IsFirst ? profilePath : null);

        var source = recipe.Model.From;
        foreach (var stage in recipe.Stages)
        {
            var folder = Path.Combine(directory, stage.Name);
            var model = Path.Combine(folder, RunFiles.Model);
            if (!ranks.Any(ranks.IsFirst && Directory.Exists(model)))      // a shared file system may show it to one rank before another
            {
                var complete = recipe.DType == "fp32"
                    ? new TrainStage<float>(context, stage, folder).Run(source)
                    : new TrainStage<BFloat16>(context, stage, folder).Run(source);
                if (!complete)
                {
                    return false;
                }
            }

            source = model;
        }

        ranks.Collective.Barrier();                              // nobody leaves while another still needs it
        return true;
    }

    /// <summary>Copies the tokenizer with another chat template beside it; nothing without a template.</summary>
    private static void WithTemplate(string tokenizer, string? template, string copy)
    {
        if (template is null)
        {
            return;
        }

        var source = Directory.Exists(tokenizer) ? Path.Combine(tokenizer, "tokenizer.json") : tokenizer;
        foreach (var file in new[] { source, template })
        {
            if (!File.Exists(file))
            {
                throw new InvalidInputException($"{file}: no such file (tokenizer.from and tokenizer.template of the recipe)");
            }
        }

        Directory.CreateDirectory(copy);
        File.Copy(source, Path.Combine(copy, "tokenizer.json"), overwrite: true);
        var name = template.EndsWith(".jinja", StringComparison.Ordinal) ? "chat_template.jinja" : "tokenizer_config.json";
        File.Copy(template, Path.Combine(copy, name), overwrite: true);
    }

    private static void Open(TrainRecipe recipe, string directory, bool resume, TextWriter output)
    {
        var path = Path.Combine(directory, RunFiles.Recipe);
        if (!File.Exists(path) || (!resume && !HasBegun(recipe, directory)))
        {
            try
            {
                Directory.CreateDirectory(directory);
                File.WriteAllText(path + ".tmp", recipe.Resolved);
                File.Move(path + ".tmp", path, overwrite: true);     // a run killed here has the whole recipe, or none
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new InvalidInputException($"{directory}: cannot write the run there: {e.Message}", e);
            }

            return;
        }

        if (!resume)
        {
            throw new InvalidInputException($"{directory}: already holds a run; add --resume to go on with it, or give another --out");
        }

        string[] stored = File.ReadAllLines(path), given = recipe.Resolved.TrimEnd('\n').Split('\n');
        var (before, now) = (WithoutParallel(stored), WithoutParallel(given));
        for (var i = 0; i < Math.Max(before.Count, now.Count); i++)
        {
            if (before.ElementAtOrDefault(i).Text != now.ElementAtOrDefault(i).Text)
            {
                throw new InvalidInputException(
                    $"{path}: line {before.ElementAtOrDefault(i).Number} is '{before.ElementAtOrDefault(i).Text?.Trim()}', the recipe "
                    + $"now says '{now.ElementAtOrDefault(i).Text?.Trim()}'; a resumed run keeps its recipe");
            }
        }

        if (!stored.SequenceEqual(given))
        {
            output.WriteLine($"{path}: the run began with another 'parallel' section; it goes on with the one given now");
        }
    }

    /// <summary>The lines of a resolved recipe, numbered from 1, but for how the state is spread over ranks: that may change with their number.</summary>
    private static List<(int Number, string? Text)> WithoutParallel(string[] lines)
    {
        var kept = new List<(int, string?)>();
        var inside = -1;                                         // the indentation of the section that is left out
        for (var i = 0; i < lines.Length; i++)
        {
            var indentation = lines[i].Length - lines[i].TrimStart().Length;
            inside = indentation > inside ? inside : -1;
            if (inside < 0 && lines[i].Trim() == "parallel:")
            {
                inside = indentation;
            }

            if (inside < 0)
            {
                kept.Add((i + 1, lines[i]));
            }
        }

        return kept;
    }

    /// <summary>Whether any stage has got past its checks: what stopped earlier, at a wrong path say, may be started afresh.</summary>
    internal static bool HasBegun(TrainRecipe recipe, string directory) => recipe.Stages.Any(stage =>
    {
        var folder = Path.Combine(directory, stage.Name);
        return File.Exists(Path.Combine(folder, RunFiles.Metrics)) || Directory.Exists(Path.Combine(folder, RunFiles.Model))
            || Directory.Exists(Path.Combine(folder, RunFiles.Checkpoints));
    });
}
