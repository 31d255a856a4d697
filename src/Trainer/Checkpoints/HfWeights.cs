using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>Weights of a Hugging Face directory into allocated parameter tensors.</summary>
public static class HfWeights
{
    /// <summary>A model directory's weights, allocated in the memory of <paramref name="stream"/> and read.</summary>
    public static ParameterSet<T> Open<T>(string directory, ComputeStream stream)
        where T : unmanaged
    {
        var weights = new ParameterSet<T>("weights", new Qwen2Parameters(Qwen2Config.Load(directory)), stream);
        weights.Arena.Allocate();
        Load(directory, weights);
        return weights;
    }

    /// <summary>
    /// Reads every parameter. Where the vocabulary here has other rows than the file, the first <paramref name="knownRows"/> are kept and the
    /// rest become their mean, as the published run's smart_tokenizer_and_embedding_resize did.
    /// </summary>
    /// <param name="directory">a model directory</param>
    /// <param name="weights">allocated</param>
    /// <param name="knownRows">rows that stand for a token of the tokenizer</param>
    /// <exception cref="InvalidInputException">a parameter is missing or has another shape</exception>
    public static void Load<T>(string directory, ParameterSet<T> weights, int knownRows = int.MaxValue)
        where T : unmanaged
    {
        using var source = HfDirectory.Open(directory);
        foreach (var (parameter, tensor) in weights.ByName)
        {
            var rows = source.Config.VocabSize;
            var isVocabulary = parameter.Name is "model.embed_tokens.weight" or "lm_head.weight";
            if (!isVocabulary || rows == parameter.Shape[0])
            {
                source.Read(parameter.Name, tensor);
                continue;
            }

            var whole = new float[checked(rows * parameter.Shape[1])];
            source.Read(parameter.Name, [rows, parameter.Shape[1]], whole);
            Resize(whole, Math.Min(rows, knownRows), parameter.Shape, 0, tensor);
        }
    }

    /// <summary>As the other, for what a shard holds of every parameter.</summary>
    /// <param name="directory">a model directory</param>
    /// <param name="weights">allocated</param>
    /// <param name="knownRows">rows that stand for a token of the tokenizer</param>
    /// <exception cref="InvalidInputException">a parameter is missing or has another shape</exception>
    public static void Load(string directory, ShardSet<float> weights, int knownRows = int.MaxValue)
    {
        using var source = HfDirectory.Open(directory);
        foreach (var (parameter, start, tensor) in weights.ByName)
        {
            var rows = source.Config.VocabSize;
            var isVocabulary = parameter.Name is "model.embed_tokens.weight" or "lm_head.weight";
            if (!isVocabulary || rows == parameter.Shape[0])
            {
                int[] shape = parameter.Shape.Rank == 1 ? [parameter.Shape[0]] : [parameter.Shape[0], parameter.Shape[1]];
                HostPieces.Fill(tensor, (first, piece) => source.Read(parameter.Name, shape, start + first, piece));
                continue;
            }

            var whole = new float[checked(rows * parameter.Shape[1])];
            source.Read(parameter.Name, [rows, parameter.Shape[1]], whole);
            Resize(whole, Math.Min(rows, knownRows), parameter.Shape, start, tensor);
        }
    }

    private static void Resize<T>(float[] source, int knownRows, Shape shape, long first, Tensor<T> target)
        where T : unmanaged
    {
        var (rows, columns) = (shape[0], shape[1]);
        var kept = Math.Min(knownRows, rows);
        var mean = new float[columns];
        for (var c = 0; c < columns && kept < rows; c++)
        {
            double sum = 0;
            for (var r = 0; r < kept; r++)
            {
                sum += source[(r * columns) + c];
            }

            mean[c] = (float)(sum / kept);
        }

        HostPieces.Fill(target, (start, piece) =>
        {
            for (var i = 0; i < piece.Length; i++)
            {
                var element = first + start + i;
                Lanes.Set(ref piece[i], 0, element < (long)kept * columns ? source[element] : mean[element % columns]);
            }
        });
    }
}
