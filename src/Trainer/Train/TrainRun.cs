using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Train;

/// <summary>A run: the stages of a recipe one after another, each from the last one's model, in one directory.</summary>
public static class TrainRun
{
    /// <summary>Sections of a stage that a resumed run may change: none of them decides a bit of the steps already taken.</summary>
    private static readonly string[] s_changeable = ["guard", "eval", "checkpoint", "parallel"];

    /// <summary>Trains, or goes on with --resume. Stages that are complete are not run again.</summary>
    /// <param name="recipe">what to train</param>
    /// <param name="directory">the run's directory; must hold no begun run unless <paramref name="resume"/></param>
    /// <param name="resume">continue the run in the directory, to the same bits as if it had not been interrupted</param>
    /// <param name="stream">where it runs; not part of the recipe, so that a run may go on elsewhere</param>
    /// <param name="ranks">all ranks, each of which calls this with the same recipe and directory; not part of the recipe either</param>
    /// <param name="output">plain lines for a person, on rank 0; the others say nothing</param>
    /// <param name="profilePath">where a Chrome trace of a few steps goes; null for none; a CPU stream has none</param>
    /// <returns>whether the run is complete; false when a signal stopped it, with everything saved</returns>
    public static bool Execute(
        TrainRecipe recipe, string directory, bool resume, ComputeStream stream, RankWorld ranks, TextWriter output, string? profilePath = null)
    {
        if (stream is CudaStream && recipe.DType == "fp32")
        {
            throw new InvalidInputException(
                $"{recipe.File}: dtype: fp32 runs on the CPU only; set dtype: bf16 (masters, moments and gradients are fp32 in either)");
        }

        using var stop = new StopSignal();
        ranks.OnFirst(() => Open(recipe, directory, resume, output));
        var (tokenizer, peak, recorded) = (RunTokenizer.DirectoryOf(recipe, directory), new GemmPeak(1, null), false);
        var measured = 0.0;
        ranks.OnFirst(() =>
        {
            RunTokenizer.Prepare(recipe, directory);
            // of this rank, while no other computes; only rank 0 reports MFU
            measured = Gemm();
            peak = new GemmPeak(ranks.Size * measured, stream is CpuStream ? () => ranks.Size * Gemm() : null);
        });
        double Gemm() => recipe.DType == "fp32" ? Roofs.MeasureGemm<float>(stream) : Roofs.MeasureGemm<BFloat16>(stream);
        void Record()
        {
            if (!recorded)
            {
                RunEnvironment.Write(Path.Combine(directory, RunFiles.Environment), recipe, tokenizer, stream, ranks, measured);
                recorded = true;
            }
        }

        var context = new TrainContext(
            recipe, tokenizer, stream, ranks, peak, resume, stop, Record, ranks.IsFirst ? output : TextWriter.Null, ranks.IsFirst ? profilePath : null);

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

    private static void Open(TrainRecipe recipe, string directory, bool resume, TextWriter output)
    {
        var path = Path.Combine(directory, RunFiles.Recipe);
        var begun = HasBegun(directory);
        if (begun && !resume)
        {
            throw new InvalidInputException($"{directory}: already holds a run; add --resume to go on with it, or give another --out");
        }

        if (!begun || !File.Exists(path))
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

        var (before, now) = (Lines(File.ReadAllLines(path)), Lines(recipe.Resolved.TrimEnd('\n').Split('\n')));
        var (kept, given) = (before.Where(l => l.Section is null).ToList(), now.Where(l => l.Section is null).ToList());
        for (var i = 0; i < Math.Max(kept.Count, given.Count); i++)
        {
            if (kept.ElementAtOrDefault(i).Text != given.ElementAtOrDefault(i).Text)
            {
                throw new InvalidInputException(
                    $"{path}: line {kept.ElementAtOrDefault(i).Number} is '{kept.ElementAtOrDefault(i).Text?.Trim()}', the recipe "
                    + $"now says '{given.ElementAtOrDefault(i).Text?.Trim()}'; a resumed run keeps its recipe but for {string.Join(", ", s_changeable)}");
            }
        }

        foreach (var section in s_changeable.Where(name => !Of(before, name).SequenceEqual(Of(now, name))))
        {
            output.WriteLine($"{path}: the run began with another '{section}' section; it goes on with the one given now");
        }

        static IEnumerable<string> Of(List<(int Number, string Text, string? Section)> lines, string section) =>
            lines.Where(l => l.Section == section).Select(l => l.Text);
    }

    /// <summary>The lines of a resolved recipe, numbered from 1, each with the section that it is in where that may change.</summary>
    private static List<(int Number, string Text, string? Section)> Lines(string[] lines)
    {
        var all = new List<(int, string, string?)>();
        var (section, inside) = ((string?)null, -1);             // and the indentation of its name
        for (var i = 0; i < lines.Length; i++)
        {
            var indentation = lines[i].Length - lines[i].TrimStart().Length;
            if (indentation <= inside || section is null)
            {
                section = Array.Find(s_changeable, name => lines[i].Trim() == $"{name}:");
                inside = section is null ? -1 : indentation;
            }

            all.Add((i + 1, lines[i], section));
        }

        return all;
    }

    /// <summary>Whether any stage, of whatever recipe, has got past its checks: what stopped earlier, at a wrong path say, may be started afresh.</summary>
    internal static bool HasBegun(string directory) => Directory.Exists(directory) && Directory.EnumerateDirectories(directory).Any(stage =>
        File.Exists(Path.Combine(stage, RunFiles.Metrics)) || Directory.Exists(Path.Combine(stage, RunFiles.Model))
        || Directory.Exists(Path.Combine(stage, RunFiles.Checkpoints)));
}
